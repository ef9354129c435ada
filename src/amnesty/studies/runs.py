"""The folder of a run: its scores, every model's answers example by example, and the models themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from amnesty.errors import DataError, ModelError
from amnesty.evaluation import ALSO, Also, Evaluator, Scores, beyond_answers, read_answers, rescored, write_answers
from amnesty.files import whole, write_json
from amnesty.tasks import Classification

SCORES, ANSWERS, MODELS = "scores.json", "answers.parquet", "models"
ORIGINAL = "original"


def write_run(
    folder: Path, document: Mapping[str, Any], scores: Mapping[str, Scores], models: Mapping[str, nn.Module]
) -> None:
    """Write a run's models, answers and scores; the scores last, so that a folder that has them is complete.

    Args:
        folder: where to.
        document: what stands in scores.json beside the methods.
        scores: name of a model -> its scores; ``"original"`` is the model before unlearning.
        models: name -> model; their weights go to ``models/<name>.safetensors``.
    """
    (folder / MODELS).mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        save_weights(folder / MODELS / f"{name}.safetensors", model)
    write_answers(folder / ANSWERS, {name: found.answers for name, found in scores.items() if found.answers})
    write_scores(folder, document, scores)


def write_scores(folder: Path, document: Mapping[str, Any], scores: Mapping[str, Scores]) -> None:
    """Write scores.json: ``document``, and each method's own numbers. Those beside them stand in other rows."""
    methods = {name: found.own for name, found in scores.items()}
    write_json(folder / SCORES, {**document, "methods": methods})


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's parameters and buffers as safetensors, whole or not at all."""
    with whole(path) as temporary:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load safetensors, or a ``torch.save`` file of nothing but tensors, into ``model``.

    Raises:
        ModelError: the file cannot be read, holds more than tensors, or does not fit the model.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path} cannot be read as weights: {error}") from error
    except Exception as error:  # pickle's own errors, of which there are many
        raise ModelError(
            f"{path} holds more than plain tensors and is not loaded: {error}. Save `model.state_dict()` with "
            "`safetensors.torch.save_file`."
        ) from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} does not fit the task's {type(model).__name__}: {error}") from error


@dataclass(frozen=True)
class Run:
    """A run's folder as read: scores.json as it is, and the answers by model and part."""

    folder: Path
    document: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The models that were scored."""
        return tuple(self.document["methods"])

    @property
    def seed(self) -> int:
        """Of the draws of the tests."""
        return int(self.document.get("seed") or 0)


def read_run(folder: Path) -> Run:
    """Read a run's scores.json.

    Raises:
        DataError: it is missing or not of a run.
    """
    path = folder / SCORES
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("methods"), dict) or not document["methods"]:
        raise DataError(f"{path} is not the scores.json of a run: it has no `methods`.")
    if document.get("schema") != 1:
        raise DataError(
            f"{path}: `schema` is {document.get('schema')!r}, but this version of Amnesty reads schema 1."
        )
    return Run(folder, document)


def rescore(run: Run) -> dict[str, Scores]:
    """Take every measure again from the stored answers; what answers cannot tell stays as it was recorded.

    Raises:
        DataError: there are no stored answers, or they lack the original's.
    """
    path = run.folder / ANSWERS
    if not path.is_file():
        raise DataError(f"{run.folder} holds no {ANSWERS}: there is nothing to compute scores from.")
    answers = read_answers(path)
    if ORIGINAL not in answers:
        raise DataError(f"{path} lacks the answers of {ORIGINAL!r}, without which no test has a known power.")
    recorded: Mapping[str, Mapping[str, float]] = run.document["methods"]
    return rescored(
        answers,
        recorded,
        reference=run.document.get("reference"),
        floor=run.document.get("floor"),
        forgotten=run.document.get("forgotten_classes", ()),
        seed=run.seed,
    )


def reevaluate(run: Run, task: Classification, also: Iterable[Also] = ALSO) -> dict[str, Scores]:
    """Ask the run's stored models again, on a task that was made anew.

    The task's model is given the weights of the run's original. Further measures that are not asked for stay as they
    were recorded.

    Raises:
        DataError: the run holds no models.
        ModelError: weights that do not fit.
    """
    load_weights(_weights(run, ORIGINAL), task.model)
    models = {name: _like(task.model, _weights(run, name)) for name in run.names}
    recorded = run.document["methods"]
    reference, floor = (models.get(run.document.get(side) or "") for side in ("reference", "floor"))
    evaluator = Evaluator(
        task,
        reference,
        second_reference=floor,
        also=also,
        reference_seconds=recorded.get(run.document.get("reference") or "", {}).get("seconds"),
        seed=run.seed,
    )
    found = {}
    for name, model in models.items():
        scores = evaluator.original if name == ORIGINAL else evaluator(model, seconds=recorded[name].get("seconds"))
        found[name] = Scores({**beyond_answers(recorded[name]), **scores}, scores.answers)
    return found


def _weights(run: Run, name: str) -> Path:
    path = run.folder / MODELS / f"{name}.safetensors"
    if not path.is_file():
        raise DataError(f"{run.folder} holds no weights of {name!r} ({path.name}): its models cannot be asked again.")
    return path


def _like(model: nn.Module, path: Path) -> nn.Module:
    import copy

    other = copy.deepcopy(model)
    load_weights(path, other)
    return other.eval()
