"""What a request means in its data: which rows are forgotten, kept, and never seen, and the task they make."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from amnesty.data import Fraction, Selector, Split, class_names, read_column
from amnesty.errors import SplitError, UnknownNameError
from amnesty.requests.loaded import LoadedModel
from amnesty.requests.request import Request, SourceSpec
from amnesty.requests.sources import Sources, refuse_other_order
from amnesty.seeds import derive, seeded
from amnesty.tasks import Classification, unpack
from amnesty.tasks.inspection import inspect

ONE = "forget"
"""Name of the only forget set."""

UNSEEN = ("holdout", "validation")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a data set of the request: which one, and its indices, shape [k]."""

    source: str
    indices: np.ndarray


@dataclass(frozen=True, eq=False)
class Parts(Mapping[str, Subset[Any]]):
    """Data sets by name: the forget sets, ``"retain"``, and ``"holdout"`` and ``"validation"`` where there are such.

    Attributes:
        sources: the data sets of the request by name.
        forget: name of a forget set -> its rows, of the training data.
        rest: name of another part -> its rows.
    """

    sources: Mapping[str, Dataset[Any]]
    forget: Mapping[str, Rows]
    rest: Mapping[str, Rows]

    def __post_init__(self) -> None:
        taken = sorted(self.forget.keys() & {"retain", *UNSEEN})
        if taken:
            raise SplitError(f"A forget set cannot be called {taken[0]!r}: another part is.")
        for name, rows in self.rows.items():
            if len(rows.indices) == 0:
                raise SplitError(f"The {_called(name, self.forget)} is empty: no example is left in it.")

    @property
    def rows(self) -> dict[str, Rows]:
        """Every part's rows by name, the forget sets first."""
        return {**self.forget, **self.rest}

    def __getitem__(self, name: str) -> Subset[Any]:
        if name not in self.rows:
            raise UnknownNameError("part", name, self.rows)
        rows = self.rows[name]
        return Subset(self.sources[rows.source], rows.indices.tolist())

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples by part."""
        return {name: len(rows.indices) for name, rows in self.rows.items()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the names and indices; equal fingerprints mean the same rows of the same sources."""
        digest = hashlib.sha256()
        for name, rows in self.rows.items():
            indices = rows.indices.astype("<i8")
            digest.update(f"{name}\n{rows.source}\n{len(indices)}\n".encode() + indices.tobytes())
        return digest.hexdigest()

    @cached_property
    def hashes(self) -> Mapping[str, tuple[bytes, ...]]:
        """The `amnesty.data.example_hash` of each example by part, in its order. Reads all data once."""
        return {name: _hashes(name, self[name]) for name in self}

    @property
    def content(self) -> dict[str, str]:
        """The `amnesty.data.content_hash` of each part: SHA-256 (hex), whatever the order of its examples."""
        return {name: hashlib.sha256(b"".join(sorted(found))).hexdigest() for name, found in self.hashes.items()}

    def changed(
        self, keep: Mapping[str, np.ndarray], add: Mapping[str, tuple[str, np.ndarray]] | None = None
    ) -> Parts:
        """Return other parts, with some examples taken out, or moved to a forget set.

        Args:
            keep: name of a part -> positions in it, shape [k], that stay; parts that are not named stay whole.
            add: name of a forget set -> name of a part, and positions in it of examples that are to be forgotten
                too; they must be of the training data.

        Raises:
            SplitError: a part has no example left, or an example to add was never trained on.
            UnknownNameError: there is no such part.
        """
        for name in (*keep, *(add or {}), *(part for part, _ in (add or {}).values())):
            if name not in self.rows:
                raise UnknownNameError("part", name, self.rows)
        rows = {
            name: Rows(mine.source, mine.indices[keep[name]]) if name in keep else mine
            for name, mine in self.rows.items()
        }
        for name, (part, positions) in (add or {}).items():
            moved = self.rows[part]
            if moved.source != rows[name].source:
                raise SplitError(f"Examples of the {part} part were never trained on: they cannot be forgotten.")
            indices = np.union1d(rows[name].indices, moved.indices[positions])
            rows[name] = Rows(moved.source, indices)
        forget = {name: rows[name] for name in self.forget}
        return dataclasses.replace(self, forget=forget, rest={name: rows[name] for name in self.rest})


def make_parts(request: Request, sources: Sources) -> Parts:
    """Choose the rows of every part.

    Unseen rows of the training data are taken out first. Forget sets are chosen among the others, random fractions
    last, each of what is left; what no set chose is retained. The validation part, where it is a share, is drawn from
    the holdout part by the request's seed, label by label in proportion; the holdout part is the rest. Unseen
    examples of a class that is forgotten altogether stay in both.

    Raises:
        SplitError: a part is empty, or would be all, forget sets overlap, or a selector does not fit the data.
        UnknownNameError, DataError: a selector does not fit the data.
    """
    training, data = sources.training, request.data
    everything = np.arange(len(training))  # type: ignore[arg-type]
    unseen = everything[:0]
    if data.holdout is not None and not isinstance(data.holdout, SourceSpec):
        unseen = data.holdout.select(training, everything)
        if len(unseen) in (0, len(everything)):
            raise SplitError(f"`data.holdout.rows` selects {len(unseen)} of {len(everything)} rows.")
    seen = np.setdiff1d(everything, unseen)
    forget = _forget_sets(request.forget, training, seen)
    union = np.concatenate(list(forget.values()))
    retain = np.setdiff1d(seen, union)
    Split(union, retain, unseen, len(everything))  # which says what is wrong, if anything is
    rest = {"retain": Rows("training", retain)}
    holdout = Rows("training", unseen) if len(unseen) else None
    if sources.holdout is not None:
        holdout = Rows("holdout", np.arange(len(sources.holdout)))  # type: ignore[arg-type]
    found = {name: getattr(sources, name) for name in ("training", *UNSEEN)}
    given = {name: dataset for name, dataset in found.items() if dataset is not None}
    rest |= _unseen(request, given, holdout)
    return Parts(given, {name: Rows("training", chosen) for name, chosen in forget.items()}, rest)


def _forget_sets(selectors: Mapping[str, Selector], training: Any, seen: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    left = seen
    for name in sorted(selectors, key=lambda name: isinstance(selectors[name], Fraction)):
        selector = selectors[name]
        chosen = selector.select(training, left if isinstance(selector, Fraction) else seen)
        if len(chosen) == 0:
            raise SplitError(f"The {_called(name, selectors)} is empty: nothing of the training data was selected.")
        for other, taken in found.items():
            shared = np.intersect1d(chosen, taken)
            if len(shared):
                raise SplitError(
                    f"The forget sets {other!r} and {name!r} overlap: they share {len(shared)} examples, such as row "
                    f"{int(shared[0])} of the training data. An example belongs to one set."
                )
        found[name], left = chosen, np.setdiff1d(left, chosen)
    return {name: found[name] for name in selectors}


def _unseen(request: Request, sources: Mapping[str, Any], holdout: Rows | None) -> dict[str, Rows]:
    """Return the holdout and the validation part, as far as there are such."""
    if "validation" in sources:
        own = {"validation": Rows("validation", np.arange(len(sources["validation"])))}
        return own if holdout is None else {"holdout": holdout, **own}
    if holdout is None:
        return {}
    assert isinstance(request.data.validation, float)
    labels = read_column(sources[holdout.source], "label")[holdout.indices]
    drawn = stratified(labels, request.data.validation, derive(request.seed, "validation"))
    rest = np.setdiff1d(np.arange(len(labels)), drawn)
    rows = {"holdout": rest, "validation": drawn}
    return {name: Rows(holdout.source, holdout.indices[chosen]) for name, chosen in rows.items()}


def stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return positions, sorted, of a random share of ``labels``, shape [n], in which each class has its share too.

    Of a class of m examples it takes ``share * m`` up to one more or less.

    Raises:
        SplitError: the share is nothing or everything.

    >>> labels = np.repeat([0, 1, 2], [20, 10, 10])
    >>> np.bincount(labels[stratified(labels, 0.5, seed=0)])
    array([10,  5,  5])
    """
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise SplitError(
            f"`data.validation` takes {count} of {len(labels)} unseen examples; it must leave some, and take some."
        )
    random = np.random.default_rng(seed)
    order = np.lexsort((random.permutation(len(labels)), labels))
    steps = (np.arange(count) + random.random()) * (len(labels) / count)
    return np.sort(order[steps.astype(np.int64)])


def make_task(
    loaded: LoadedModel, parts: Parts, *, duplicates: Literal["refuse", "keep"] = "refuse"
) -> Classification:
    """Return the task of unlearning: the model joined with the parts.

    One forget set is given as it is, several by name, so that methods can give each a player of its own.

    Raises:
        DataError: the model and the data number the same classes differently.
        InvalidInputError: see `amnesty.Classification`.
    """
    names = class_names(parts.sources["training"])
    refuse_other_order(loaded.class_names, names, "the model", "the data")
    sets = {name: parts[name] for name in parts.forget}
    rest: dict[str, Any] = {name: parts[name] for name in parts.rest}
    forget: Any = next(iter(sets.values())) if len(sets) == 1 else sets
    return Classification(
        loaded.model,
        forget=forget,
        **rest,
        class_names=names or loaded.class_names,
        duplicates=duplicates,
    )


def _hashes(name: str, part: Subset[Any]) -> tuple[bytes, ...]:
    with seeded(0, torch.device("cpu")):  # data may draw random numbers; the caller's are not for it
        return inspect(name, part, unpack).hashes


def _called(name: str, sets: Mapping[str, Any]) -> str:
    return f"forget set {name!r}" if name in sets and name != ONE else f"{name} set"
