"""Errors of every room. They say what was expected, what was found and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def one_line(error: BaseException, named: bool = True, longest: int = 300) -> str:
    r"""Return what an error of another library says, as one line of at most so many characters.

    Args:
        error: whatever was raised.
        named: put the name of its class first.
        longest: characters of its message.

    >>> one_line(OSError("no\n  network")), one_line(OSError("no\n  network"), named=False), one_line(OSError())
    ('OSError: no network', 'no network', 'OSError')
    """
    text, kind = " ".join(str(error).split())[:longest], type(error).__name__
    return (f"{kind}: {text}" if named else text) if text else kind


class AmnestyError(Exception):
    """The parent of every error that this library raises on purpose."""


class InvalidInputError(AmnestyError, ValueError):
    """An argument, a data set or a model that cannot be used as it is."""


class ShapeError(InvalidInputError):
    """A tensor of another shape, type or layout than the one needed."""


class SplitError(InvalidInputError):
    """A selection that is empty, out of range, overlapping or incomplete."""


class DataError(InvalidInputError):
    """Examples that cannot be trained on: wrong labels, shapes, or numbers that are not finite."""


class ModelError(InvalidInputError):
    """A model that cannot be unlearned: no trainable parameter, outputs of another shape."""


class LossError(InvalidInputError):
    """A player's loss that is not a scalar or that no bargained parameter can change."""


class PrecisionError(InvalidInputError):
    """A number format in which the wanted computation would be wrong."""


class ReportError(InvalidInputError):
    """A run's folder from which no report can be made: files missing, unreadable or of another schema."""


class CheckpointError(InvalidInputError):
    """Checkpoints that cannot be used: of another run, in use, or of something that cannot be saved."""


class CheckpointWriteError(AmnestyError, OSError):
    """A checkpoint could not be written: a full disk, say. Nothing half-written is left, older ones are whole."""


class InterruptedRunError(AmnestyError):
    """A run was asked to stop, and did after a step, with a checkpoint.

    Attributes:
        step: the last step that was made, from 1.
        folder: where the checkpoint is.
    """

    def __init__(self, message: str, step: int | None = None, folder: Path | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.folder = folder


class MissingReferenceError(InvalidInputError, KeyError):
    """A measure that compares with a retrained model was asked for without one."""

    __str__ = Exception.__str__  # that of `KeyError` would quote the sentence


class MissingMeasureError(InvalidInputError, KeyError):
    """A measure that scores do not have, because what it needs was not given."""

    __str__ = Exception.__str__  # that of `KeyError` would quote the sentence


class NonFiniteError(AmnestyError, ArithmeticError):
    """A loss or a gradient became NaN or infinite; raised before any weight moved.

    Attributes:
        step: the step that failed, from 1; ``None`` outside a training loop.
        model: the model as the step before left it, the last good one; ``None`` outside a training loop.
    """

    def __init__(self, message: str, step: int | None = None, model: object = None) -> None:
        super().__init__(message)
        self.step = step
        self.model = model


class MissingExtraError(AmnestyError, ImportError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(
            f"{what} needs the package `{package}`, which is not installed. "
            f"Install it with: pip install 'amnesty[{extra}]'"
        )
        self._given = (package, extra, what)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._given  # so that the error can cross to another process


class UnknownNameError(AmnestyError, KeyError):
    """A name that is in no table; the message suggests the nearest ones.

    >>> raise UnknownNameError("method", "munda", ["munba", "finetune"])
    Traceback (most recent call last):
      ...
    amnesty.errors.UnknownNameError: Unknown method 'munda'. Did you mean 'munba'? Known: finetune, munba.
    """

    __str__ = Exception.__str__  # that of `KeyError` would quote the sentence

    def __init__(self, kind: str, name: object, known: Iterable[object]) -> None:
        names = sorted(str(k) for k in known)
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"Unknown {kind} {str(name)!r}.{hint} Known: {', '.join(names) or 'none'}.")
        self._given = (kind, str(name), names)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._given  # so that the error can cross to another process
