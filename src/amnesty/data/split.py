"""What to forget, what to keep, what was never used: three disjoint parts of one data set."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset, Subset

from amnesty.data.examples import class_names, content_hash, read_column
from amnesty.errors import DataError, InvalidInputError, SplitError, UnknownNameError
from amnesty.seeds import derive

PARTS = ("forget", "retain", "holdout")


class Selector(Protocol):
    """Chooses examples of a data set."""

    def select(self, dataset: Any, among: np.ndarray) -> np.ndarray:
        """Return chosen indices, a subset of ``among`` (sorted indices, shape [k])."""


@dataclass(frozen=True)
class Indices:
    """The examples at given positions. Positions outside the data set or already taken are an error."""

    indices: Sequence[int] | np.ndarray

    def select(self, dataset: Any, among: np.ndarray) -> np.ndarray:
        """Return the positions, sorted. Raises `SplitError` if one is repeated, out of range or taken."""
        chosen = np.asarray(self.indices).reshape(-1)
        if chosen.size and not np.issubdtype(chosen.dtype, np.integer):
            raise SplitError(f"Indices must be integers, found {chosen.dtype}.")
        chosen = chosen.astype(np.int64)
        outside = chosen[(chosen < 0) | (chosen >= len(dataset))]
        if outside.size:
            raise SplitError(f"Indices outside a data set of {len(dataset)} examples: {_some(outside)}.")
        if len(np.unique(chosen)) < len(chosen):
            values, counts = np.unique(chosen, return_counts=True)
            raise SplitError(f"Indices that are named more than once: {_some(values[counts > 1])}.")
        taken = np.setdiff1d(chosen, among)
        if taken.size:
            raise SplitError(f"Indices that are in the holdout part too: {_some(taken)}. The parts must not overlap.")
        return np.sort(chosen)


@dataclass(frozen=True)
class IndexFile:
    """The examples whose positions stand in a file: ``.npy``, or text with whitespace between numbers."""

    path: str | Path

    def select(self, dataset: Any, among: np.ndarray) -> np.ndarray:
        """Return the positions, sorted. Raises `SplitError` as `Indices` does, or if the file cannot be read."""
        path = Path(self.path)
        try:
            if path.suffix == ".npy":
                with path.open("rb") as file:  # not `np.load`, which opens archives and pickles too
                    indices = np.lib.format.read_array(file, allow_pickle=False)
                return Indices(indices).select(dataset, among)
            words = path.read_text(encoding="utf-8-sig").split()
            return Indices([int(word) for word in words]).select(dataset, among)
        except (OSError, UnicodeDecodeError, MemoryError) as error:  # a file may claim to be huge
            raise SplitError(f"Cannot read the index file {path.name}: {error}") from error
        except ValueError as error:
            if isinstance(error, SplitError):
                raise
            raise SplitError(f"The index file {path.name} must hold whole numbers: {error}") from error


@dataclass(frozen=True)
class Classes:
    """All examples of some classes, given by name or number; ``column`` holds the numbers."""

    classes: Sequence[str | int]
    column: str = "label"

    def select(self, dataset: Any, among: np.ndarray) -> np.ndarray:
        """Return the members of the classes.

        Raises:
            UnknownNameError: no such class.
            SplitError: a class that has a name but no example, or one name instead of a list of names.
            DataError: the column does not hold class numbers.
        """
        if isinstance(self.classes, str):
            raise SplitError(f"`classes` must be a list of names or numbers: [{self.classes!r}].")
        labels = read_column(dataset, self.column)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise DataError(
                f"Column {self.column!r} does not hold one class number per example, found {labels.dtype} of shape "
                f"{list(labels.shape)}. Choose by its values with `Column`."
            )
        present = set(np.unique(labels).tolist())
        names = class_names(dataset, self.column) or ()
        wanted = [self._number(c, names, present) for c in self.classes]
        return among[np.isin(labels[among], wanted)]

    def _number(self, wanted: str | int, names: Sequence[str], present: set[int]) -> int:
        known = {str(number): number for number in present} if not names else {}
        known |= {name: number for number, name in enumerate(names)}
        number = known.get(wanted) if isinstance(wanted, str) else wanted
        if number is None or isinstance(number, bool) or number not in {*present, *known.values()}:
            raise UnknownNameError("class", wanted, known)
        if number not in present:
            raise SplitError(f"The data set has no example of class {wanted!r}.")
        return int(number)


@dataclass(frozen=True)
class Fraction:
    """A random share, in (0, 1), of what is left; the same seed chooses the same examples."""

    fraction: float
    seed: int = 0

    def select(self, dataset: Any, among: np.ndarray) -> np.ndarray:
        """Return ``round(fraction * len(among))`` indices. Raises `SplitError` if that is 0 or all."""
        count = round(self.fraction * len(among)) if 0 < self.fraction < 1 else 0
        if not 0 < count < len(among):
            raise SplitError(
                f"`fraction` must be in (0, 1) and select some but not all of {len(among)} examples, found "
                f"{self.fraction}."
            )
        # The same stream over the rest would choose neighbours of what it chose over all.
        use = "fraction" if len(among) == len(dataset) else "fraction of the rest"
        random = np.random.default_rng(derive(self.seed, use))
        return np.sort(random.choice(among, size=count, replace=False))


@dataclass(frozen=True)
class Column:
    """All examples whose ``column`` has one of ``values``, such as the user ids of a deletion request.

    ``values`` may be the path of a text file with one value a line. A value that occurs nowhere is an error,
    since a request that matches nothing has not been fulfilled.
    """

    column: str
    values: Sequence[Any] | str | Path

    def select(self, dataset: Any, among: np.ndarray) -> np.ndarray:
        """Return the matching indices. Raises `UnknownNameError` (column) or `SplitError` (value, file)."""
        found = read_column(dataset, self.column)
        # Compared as text: files hold text, and 7 and "7" name the same user.
        text = np.asarray([str(x) for x in found])
        wanted = [str(x) for x in self._values()]
        missing = sorted(set(wanted) - set(text.tolist()))
        if missing:
            raise SplitError(
                f"Column {self.column!r} never has the value {', '.join(map(repr, missing[:5]))}"
                f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}."
            )
        return among[np.isin(text[among], wanted)]

    def _values(self) -> Sequence[Any]:
        if not isinstance(self.values, str | Path):
            return self.values
        try:
            lines = Path(self.values).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SplitError(
                f"Cannot read the values of {self.column!r} from the file {str(self.values)!r}: {error}. Values "
                "themselves are given as a list."
            ) from error
        return [line.strip() for line in lines if line.strip()]


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint parts that together are the whole data set, as sorted indices, shape [k] each.

    Args:
        forget: what the model has learnt and must forget; not empty.
        retain: what it has learnt and must keep; not empty.
        holdout: what it was never trained on; may be empty when it is a data set of its own.
        size: number of examples of the data set.
        content: SHA-256 (hex) of the examples of each part that is not empty; see `content_hash`.

    Raises:
        SplitError: a part that must not be is empty, an index is not an integer or out of range, parts
            overlap, or an example is in none.
    """

    forget: np.ndarray
    retain: np.ndarray
    holdout: np.ndarray
    size: int
    content: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in PARTS:
            part = np.asarray(getattr(self, name)).reshape(-1)
            if part.size and not np.issubdtype(part.dtype, np.integer):
                raise SplitError(f"Indices of the {name} part must be integers, found {part.dtype}.")
            object.__setattr__(self, name, np.sort(part.astype(np.int64)))
        for name in ("forget", "retain"):
            if len(getattr(self, name)) == 0:
                raise SplitError(f"The {name} set is empty: nothing was selected to {name}.")
        together = np.concatenate([self.forget, self.retain, self.holdout])
        if together.min() < 0 or together.max() >= self.size:
            raise SplitError(f"Some index is outside a data set of {self.size} examples.")
        values, counts = np.unique(together, return_counts=True)
        if (counts > 1).any():
            raise SplitError(f"The parts overlap: named more than once are {_some(values[counts > 1])}.")
        if len(values) < self.size:
            missing = np.setdiff1d(np.arange(self.size), values)
            raise SplitError(f"The parts are not complete: in none are {_some(missing)}.")

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the three lists of indices; equal fingerprints mean the same split."""
        digest = hashlib.sha256()
        for name in PARTS:
            part = getattr(self, name).astype("<i8")
            digest.update(f"{name}{len(part)}".encode() + part.tobytes())
        return digest.hexdigest()

    def parts(self, dataset: Dataset[Any]) -> dict[str, Subset[Any]]:
        """Return the forget, retain and holdout subsets of ``dataset``, ready for a task.

        Raises:
            SplitError: ``dataset`` has another number of examples than was split.
        """
        found = len(dataset)  # type: ignore[arg-type]
        if found != self.size:
            raise SplitError(f"This split is of {self.size} examples, but the data set has {found}.")
        return {name: Subset(dataset, getattr(self, name).tolist()) for name in PARTS}


def split(dataset: Any, forget: Selector, holdout: Selector | None = None, *, hashed: bool = True) -> Split:
    """Choose what to forget; everything else is retained.

    ``holdout`` is chosen first, and ``forget`` among what is left, so that a class to forget may also occur
    among the unseen examples. With ``hashed`` every example is read once, so that the split carries the hash of
    what it is about.

    Raises:
        InvalidInputError: ``forget`` or ``holdout`` is not a selector.
        SplitError: the selection is empty, everything, out of range or overlaps the holdout part.
        UnknownNameError: a class or column that the data set does not have.
        DataError: a column that does not hold what the selector needs.

    Example:
        >>> import torch
        >>> from amnesty.data import Classes, Examples, Fraction, split
        >>> data = Examples(torch.zeros(10, 1), torch.arange(10) % 2, class_names=["cat", "dog"])
        >>> parts = split(data, forget=Classes(["dog"]), holdout=Fraction(0.2, seed=0))
        >>> len(parts.forget) + len(parts.retain), len(parts.holdout)
        (8, 2)
    """
    for name, selector in (("forget", forget), ("holdout", holdout)):
        if selector is not None and not hasattr(selector, "select"):
            raise InvalidInputError(
                f"`{name}` must be a selector such as `Indices([...])`, `Classes([...])` or `Fraction(0.1)`, found "
                f"{type(selector).__name__}."
            )
    everything = np.arange(len(dataset))
    unseen = everything[:0] if holdout is None else holdout.select(dataset, everything)
    seen = np.setdiff1d(everything, unseen)
    chosen = forget.select(dataset, seen)
    parts = Split(chosen, np.setdiff1d(seen, chosen), unseen, len(dataset))
    content = {name: content_hash(part) for name, part in parts.parts(dataset).items() if len(part)} if hashed else {}
    return dataclasses.replace(parts, content=content)


def _some(indices: np.ndarray) -> str:
    shown = ", ".join(str(i) for i in indices[:5].tolist())
    return f"{shown} and {len(indices) - 5} more" if len(indices) > 5 else shown
