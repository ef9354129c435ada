"""What a request means for a model of two towers: its task, with the words and the other data that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn
from torch.utils.data import Dataset, Subset

from amnesty.errors import DataError
from amnesty.evaluation.zero_shot import ZeroShotMeasures
from amnesty.requests.parts import Parts
from amnesty.requests.pictures import load_pictures, names_in, pictures_of
from amnesty.requests.request import ZeroShotSpec
from amnesty.requests.towers import LoadedTowers
from amnesty.tasks import Classification
from amnesty.tasks.zero_shot import Transfer, ZeroShot, ZeroShotClassifier

ZERO_SHOT = "zero_shot.json"
"""What the page of a run shows of a zero-shot model; see `amnesty.evaluation.zero_shot.zero_shot_facts`."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What a zero-shot task has beside the model and the parts of the data.

    Attributes:
        bank: texts.
        transfers: other data sets by name.
        captioned: data sets of captioned images by the argument of `ZeroShot` that they are.
    """

    bank: tuple[str, ...] = ()
    transfers: Mapping[str, Transfer] = field(default_factory=dict)
    captioned: Mapping[str, Dataset[Any]] = field(default_factory=dict)


def load_beside(spec: ZeroShotSpec) -> Beside:
    """Load what a request names beside model and data.

    Raises:
        DataError: a file of texts has none, a data set does not name its classes, or as `load_pictures`.
        InvalidInputError, UnknownNameError, MissingExtraError: see `load_pictures`.
        OSError: a file cannot be read.
    """
    transfers = {}
    for name, other in spec.transfers.items():
        data = load_pictures(other.data)
        words = names_in(data, other.class_names, f"`zero_shot.transfers.{name}`")
        transfers[name] = Transfer(data, words, other.templates)
    captioned = {key: load_pictures(source, captioned=True) for key, source in spec.captioned.items()}
    bank = texts_in(spec.bank) if isinstance(spec.bank, Path) else spec.bank
    return Beside(bank=bank, transfers=transfers, captioned=captioned)


def texts_in(path: Path) -> tuple[str, ...]:
    """Return the texts of a file, one a line, blank lines left out.

    Raises:
        DataError: it is not UTF-8, or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must hold texts in UTF-8, one a line: {error.reason} at byte {error.start}."
        ) from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise DataError(f"{path} must hold texts, one a line, but has none.")
    return found


def make_zero_shot(
    loaded: LoadedTowers,
    parts: Parts,
    spec: ZeroShotSpec,
    beside: Beside,
    *,
    duplicates: Literal["refuse", "keep"] = "refuse",
) -> ZeroShot:
    """Return the task of unlearning: the towers joined with words and parts.

    Raises:
        DataError: the data does not name its classes, and neither does the request.
        InvalidInputError: see `ZeroShot`; or the name of another data set stands for something else among scores.
    """
    raw = {name: _pictures(parts, name) for name in parts}
    sets = {name: raw[name] for name in parts.forget}
    task = ZeroShot(
        loaded.model,
        loaded.processor,
        names_in(parts.sources["training"], spec.class_names, "The training data"),
        spec.templates,
        forget=next(iter(sets.values())) if len(sets) == 1 else sets,
        **{name: raw[name] for name in parts.rest},  # type: ignore[arg-type]
        transfers=beside.transfers,
        paraphrases=spec.paraphrases,
        train=spec.train,
        lora=spec.lora,
        retain_loss=spec.retain_loss,
        forget_loss=spec.forget_loss,
        anchor=spec.anchor,
        bank=beside.bank,
        duplicates=duplicates,
        **beside.captioned,  # type: ignore[arg-type]
    )
    ZeroShotMeasures(task)  # says what cannot be scored
    return task


def _pictures(parts: Parts, name: str) -> Subset[Any]:
    rows = parts.rows[name]
    return Subset(pictures_of(parts.sources[rows.source]), rows.indices.tolist())


def saved(task: Classification, model: nn.Module) -> nn.Module:
    """Return a model that a run left as it is scored: as whoever reads it from the folder has it.

    Adapters are merged, whether the run saves them so or alone.
    """
    if isinstance(task, ZeroShot) and isinstance(model, ZeroShotClassifier):
        return task.classifier(model.plain()).to(task.model.prompts.device)
    return model


def settings_of(task: Classification, spec: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what a record says of a zero-shot task; ``None`` for another one.

    Args:
        task: of the run.
        spec: the section of the request, as it is written out.
    """
    if not isinstance(task, ZeroShot):
        return None
    sizes = [(p.numel(), p.requires_grad) for p in task.model.parameters()]
    return {
        "name": "zero-shot",
        **(spec or {}),
        "class_names": list(task.class_names),
        "parameters": sum(size for size, _ in sizes),
        "trainable": sum(size for size, moves in sizes if moves),
    }
