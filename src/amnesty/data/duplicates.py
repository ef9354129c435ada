"""Copies of what is to be forgotten in other parts of the data, where they are learnt again or pass for unseen."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor
from torch.utils.data import Dataset

from amnesty.data.alike import Limits
from amnesty.data.searching import Search
from amnesty.errors import InvalidInputError

Kind = Literal["exact", "relabelled", "pixels", "features"]
"""How a copy was found: equal, equal under another label, alike in pixels (numbers), or in the model's features."""

KINDS: tuple[Kind, ...] = get_args(Kind)

SHOWN = 1000
"""So many copies are listed in a record; all are counted."""

_HEADS = {
    "exact": "exact",
    "relabelled": "same input, other label",
    "pixels": "near (pixels)",
    "features": "near (features)",
}


@dataclass(frozen=True, kw_only=True)
class Copy:
    """An example outside the forget set that is, or may be, a copy of one to forget.

    Attributes:
        part, index: where it is.
        forget_set, forget: of which example it is a copy, by set and index: the one that it is most like.
        kind: see `Kind`. likeness: in [-1, 1], 1 for equal inputs.
        clear: whether there is no doubt; the others are for people to look at.
        same_label: whether both have the same label.
        hash, forget_hash: `example_hash` of both (hex).
        round: 1; more for a copy of a copy, found after that was moved to the forget set.
    """

    part: str
    index: int
    forget_set: str
    forget: int
    kind: Kind
    likeness: float
    clear: bool
    same_label: bool
    hash: str
    forget_hash: str
    round: int = 1

    def __str__(self) -> str:
        how = _HEADS[self.kind] if self.likeness == 1 else f"{_HEADS[self.kind]}, {self.likeness:.3f}"
        name = self.forget_set if self.forget_set == "forget" else f"forget set {self.forget_set!r}"
        return f"{self.part} {self.index} = {name} {self.forget} ({how})"


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """What a search for copies found.

    Attributes:
        copies: each example at most once, by part and index.
        sizes: number of examples of each part that was searched.
        limits: by kind, the likenesses that were needed.
        skipped: kind -> why it was not searched for.
    """

    copies: tuple[Copy, ...]
    sizes: Mapping[str, int]
    limits: Mapping[str, Limits] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def clear(self) -> tuple[Copy, ...]:
        """The copies that there is no doubt about."""
        return tuple(copy for copy in self.copies if copy.clear)

    def counts(self, clear: bool = True) -> dict[str, dict[str, int]]:
        """Return the number of clear (or of possible) copies: part -> kind -> how many, those with none left out."""
        found = Counter((copy.part, copy.kind) for copy in self.copies if copy.clear is clear)
        rows = {part: {str(kind): found[part, kind] for kind in KINDS if found[part, kind]} for part in self.sizes}
        return {part: kinds for part, kinds in rows.items() if kinds}

    def describe(self) -> dict[str, Any]:
        """Return plain values for a record: counts, limits, and up to 1000 copies by index and hash, clear first."""
        ordered = sorted(self.copies, key=lambda copy: not copy.clear)
        return {
            "searched": dict(self.sizes),
            "counts": self.counts(),
            "possible": self.counts(clear=False),
            "limits": {kind: dataclasses.asdict(limits) for kind, limits in self.limits.items()},
            "skipped": dict(self.skipped),
            "copies": [dataclasses.asdict(copy) | {"likeness": round(copy.likeness, 4)} for copy in ordered[:SHOWN]],
            "not_listed": max(0, len(ordered) - SHOWN),
        }

    def table(self) -> str:
        """Return the counts as a table of plain text; ``12 + 3?`` are 12 clear copies and 3 that may be."""
        clear, possible = self.counts(), self.counts(clear=False)
        rows = [["part", "examples", *_HEADS.values()]]
        for part, size in self.sizes.items():
            cells = [_cell(clear.get(part, {}).get(k, 0), possible.get(part, {}).get(k, 0)) for k in KINDS]
            rows.append([part, str(size), *cells])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return "\n".join([*lines, *(f"{kind} not searched: {why}" for kind, why in self.skipped.items())])


def find_duplicates(
    forget: Dataset[Any] | Mapping[str, Dataset[Any]],
    parts: Mapping[str, Dataset[Any]],
    *,
    near: Sequence[str] = ("pixels",),
    features: Callable[[Tensor], Tensor] | None = None,
    threshold: float | None = None,
    limits: Mapping[str, Limits] | None = None,
    workers: int = 0,
) -> Duplicates:
    """Search ``parts`` for copies of the examples to forget.

    Equal inputs are always found, whatever their labels. Near copies are found by pixels (compressed, brightened,
    shifted, mirrored, slightly cropped, resized, noisy; inputs that are no images: by their numbers) and by features.
    From which likeness on there is a copy is found from the data, see `amnesty.data.alike.find_limits`. Copies by
    features alone are never clear: images of one class are alike there without being copies.

    The data is read block by block, each part once for every 16,384 examples to forget; in memory are at most a few
    hundred MiB. Neither the order of examples nor the caller's random state matters.

    Args:
        forget: the examples to forget, or several sets of them by name.
        parts: what to search, by name.
        near: of ``"pixels"`` and ``"features"``, those to search beside equal inputs.
        features: maps a batch of inputs to features, shape [B, d]; needed for ``"features"``.
        threshold: likeness in (0, 1] from which on a copy is clear; by default found from the data. Features are
            still never clear.
        limits: those of an earlier search, to be used again.
        workers: processes that read data that is not in memory.

    Raises:
        InvalidInputError: ``near`` or ``threshold`` is none of the above, or ``features`` is missing.
        SplitError: a part is empty.
        DataError: examples without a label, or of different sizes.

    Example:
        >>> import torch
        >>> from amnesty.data import Examples
        >>> images = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> retain = Examples(torch.cat([images[:5].flip(3) * 0.8, images[5:]]), torch.zeros(40, dtype=torch.int64))
        >>> found = find_duplicates(Examples(images[3:6], torch.zeros(3, dtype=torch.int64)), {"retain": retain})
        >>> [(copy.index, copy.forget, copy.kind) for copy in found.clear]
        [(3, 0, 'pixels'), (4, 1, 'pixels'), (5, 2, 'exact')]
    """
    _check(near, features, threshold)
    sets = forget if isinstance(forget, Mapping) else {"forget": forget}
    search = Search(sets, parts, {kind: features if kind == "features" else None for kind in near}, workers)
    search.run()
    chosen = search.limits(threshold) | {k: v for k, v in (limits or {}).items() if k in search.kinds}
    copies = tuple(_copies(search, chosen))
    return Duplicates(copies=copies, sizes=search.sizes, limits=chosen, skipped=search.skipped)


def _check(near: Sequence[str], features: object, threshold: float | None) -> None:
    known = ("pixels", "features")
    unknown = [kind for kind in near if kind not in known]
    if isinstance(near, str) or unknown:
        raise InvalidInputError(f"`near` must be a list of {', '.join(known)}, found {near!r}.")
    if "features" in near and features is None:
        raise InvalidInputError("To compare features, give `features`, a function from inputs to features.")
    if threshold is not None and not 0 < threshold <= 1:
        raise InvalidInputError(f"`threshold` must be a likeness in (0, 1], found {threshold}.")


def _copies(search: Search, limits: Mapping[str, Limits]) -> Iterator[Copy]:
    """Yield each example that is a copy, by the surest of the ways in which it is one."""
    for part, index, kind, forget, likeness in search.matches(limits):
        label, other = search.label(part, index), search.forget_label(forget)
        limit = limits[kind].clear if kind in limits else 0.0
        name, position = search.place(forget)
        yield Copy(
            part=part,
            index=index,
            forget_set=name,
            forget=position,
            kind="relabelled" if kind == "exact" and label != other else kind,  # type: ignore[arg-type]
            likeness=likeness,
            clear=limit is not None and likeness >= limit,
            same_label=label == other,
            hash=search.hash(part, index),
            forget_hash=search.forget_hash(forget),
        )


def _cell(clear: int, possible: int) -> str:
    return f"{clear} + {possible}?" if possible else str(clear)
