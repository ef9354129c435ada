"""The folder of a shadow pool: files that are whole or not there, and a record of what they belong to."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from amnesty.errors import DataError, InvalidInputError
from amnesty.files import whole, write_json
from amnesty.weights import tensors_of

_RECORD = "design.json"


@dataclass(frozen=True)
class ShadowAnswers:
    """What M models say of the pool and of further examples, n + e together.

    Attributes:
        margins: log-odds of each example's label, ``z_y - logsumexp_{j != y} z_j``, float32, shape [M, n + e].
        correct: whether the label has the largest logit, bool, shape [M, n + e].
        seconds: what each model took to train or to unlearn, float64, shape [M].
    """

    margins: np.ndarray
    correct: np.ndarray
    seconds: np.ndarray


@dataclass(frozen=True)
class Store:
    """One folder with a subfolder for each stage, and there a file for each model.

    Attributes:
        folder: the root. width: number of examples that each model is asked about.
    """

    folder: Path
    width: int

    def has(self, stage: str, shadow: int, weights: bool = False) -> bool:
        """Say whether a model's answers are there, and its weights, where those are wanted."""
        return self._path(stage, shadow, "npz").exists() and (
            not weights or self._path(stage, shadow, "safetensors").exists()
        )

    def write(self, stage: str, shadow: int, answers: ShadowAnswers, model: nn.Module | None = None) -> None:
        """Write a model's answers, each of the arrays without its first axis, after its weights, if given."""
        from safetensors.torch import save

        if model is not None:
            _write(self._path(stage, shadow, "safetensors"), save(tensors_of(model)))
        buffer = io.BytesIO()
        np.savez(buffer, margins=answers.margins, correct=answers.correct, seconds=answers.seconds)
        _write(self._path(stage, shadow, "npz"), buffer.getvalue())

    def read(self, stage: str, shadows: int) -> ShadowAnswers:
        """Return the answers of all models.

        Raises:
            DataError: a file cannot be read, or holds something else; the message names it.
        """
        each = [self._read(self._path(stage, s, "npz")) for s in range(shadows)]
        return ShadowAnswers(
            *(np.stack([getattr(one, f.name) for one in each]) for f in dataclasses.fields(ShadowAnswers))
        )

    def load(self, stage: str, shadow: int, model: nn.Module) -> nn.Module:
        """Return ``model`` with the weights and buffers of a stored one.

        Raises:
            DataError: the file cannot be read, or is of another model; the message names it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(stage, shadow, "safetensors")
        try:
            model.load_state_dict(load(path.read_bytes()))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise _unreadable(path, error) from error
        return model.eval()

    def _read(self, path: Path) -> ShadowAnswers:
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                found = ShadowAnswers(file["margins"], file["correct"], file["seconds"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise _unreadable(path, error) from error
        shape = (self.width,)
        if found.margins.shape != shape or found.correct.shape != shape or found.seconds.shape != ():
            raise _unreadable(path, f"it holds margins of shape {list(found.margins.shape)}, not {list(shape)}")
        return found

    def _path(self, stage: str, shadow: int, suffix: str) -> Path:
        return self.folder / stage / f"{shadow:03}.{suffix}"


def claim(folder: Path, design: Mapping[str, Any]) -> None:
    """Make a folder that is of this design, or check that it is.

    Raises:
        InvalidInputError: it is a file, holds other things, or is of another design, whose differing
            fields are named.
        DataError: its record cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"`folder` must be a folder, but {folder} is a file.")
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / _RECORD
    if not record.exists():
        strange = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        if strange:
            raise InvalidInputError(
                f"`folder` must be empty or a pool of shadow models, but {folder} holds {strange[0]!r} and no "
                f"{_RECORD}."
            )
        write_json(record, design)
    known, now = recorded(folder), json.loads(json.dumps(design))
    other = [key for key in sorted(known.keys() | now.keys()) if known.get(key) != now.get(key)]
    if other:
        told = "; ".join(f"`{key}` was {_short(known.get(key))} and is {_short(now.get(key))}" for key in other)
        raise InvalidInputError(
            f"{folder} holds shadow models of another design: {told}. Give a folder of its own to each design, or "
            "what this one was made with."
        )


def recorded(folder: Path) -> dict[str, Any]:
    """Return the design that a folder was made with; nothing for a folder without one."""
    record = folder / _RECORD
    if not record.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(record, error) from error
    return found


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_bytes(content)


def _unreadable(path: Path, reason: object) -> DataError:
    return DataError(f"{path} cannot be read: {reason}. Delete it, and it will be computed again.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
