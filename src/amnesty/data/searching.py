"""One pass over the data that compares every example with those to forget."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from amnesty.data.alike import Coordinates, Limits, Vectors, directions, find_limits
from amnesty.data.batches import Batches
from amnesty.data.examples import batch_hashes, input_and_label
from amnesty.data.near import Images, are_images, reduced
from amnesty.data.together import Joined
from amnesty.errors import DataError
from amnesty.seeds import seeded

AT_ONCE = 16384  # examples to forget that are held in memory, by what is compared of them
BLOCK = 1024  # examples read at once, if they are small
BYTES = 2**26  # of one block
USUAL = 4096  # likenesses to know what is usual from
NOT_NUMBERS = "inputs of whole numbers are codes, not measurements; only equal ones are found"

Embed = Callable[[Tensor], Tensor]


class _Index(Protocol):
    def nearest(self, items: Tensor, exact: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


class Search:
    """Compares parts of the data with the examples to forget; see `amnesty.data.find_duplicates`.

    Args:
        sets: the examples to forget. parts: what to search.
        kinds: ``"pixels"``, ``"features"`` -> the features' function.
        workers: processes that read.
    """

    def __init__(
        self,
        sets: Mapping[str, Dataset[Any]],
        parts: Mapping[str, Dataset[Any]],
        kinds: Mapping[str, Any],
        workers: int,
    ) -> None:
        self.parts, self.workers = parts, workers
        for name, part in {**sets, **parts}.items():
            Batches(part, name=name)  # refuses what is empty or has no length
        self.names, sizes = list(sets), [len(s) for s in sets.values()]  # type: ignore[arg-type]
        self._starts = [0, *accumulate(sizes)]
        self.sizes: dict[str, int] = {name: len(part) for name, part in parts.items()}  # type: ignore[arg-type]
        self.forget = Joined(list(sets.values()))
        self.kinds, self.skipped = dict(kinds), dict[str, str]()
        self._facts = {name: _Facts() for name in ("", *parts)}  # "" is the forget set
        self._nearest: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}

    def run(self) -> None:
        """Read everything and compare it."""
        with seeded(0, torch.device("cpu")), torch.inference_mode():
            self._read_forget()
            embeds = self._embeds()
            for start in range(0, len(self.forget), AT_ONCE):
                chosen = Subset(self.forget, range(start, min(start + AT_ONCE, len(self.forget))))
                indices = self._index(chosen, embeds)
                for name in self.parts:
                    self._compare(name, indices, embeds, start)

    # What is compared.

    def _embeds(self) -> dict[str, Embed]:
        """Return how inputs become what is compared, by kind."""
        found: dict[str, Embed] = {}
        for kind, features in self.kinds.items():
            if kind == "features":
                found[kind] = _features(features)
                continue
            first, _ = next(_read("forget", self.forget, 0))
            if are_images(first):
                found[kind] = reduced
            elif first.is_floating_point() or first.dtype == torch.uint8:
                found[kind] = Coordinates(self._all_inputs()).of
            else:
                self.skipped[kind] = NOT_NUMBERS
        return found

    def _all_inputs(self) -> Iterator[Tensor]:
        for name, part in {"forget": self.forget, **self.parts}.items():
            for inputs, _ in _read(name, part, self.workers):
                yield inputs

    def _index(self, chosen: Dataset[Any], embeds: Mapping[str, Embed]) -> dict[str, _Index]:
        held: dict[str, list[Tensor]] = {kind: [] for kind in embeds}
        for inputs, _ in _read("forget", chosen, self.workers):
            for kind, embed in embeds.items():
                items = embed(inputs)
                held[kind].append(items.half() if embed is reduced else items)
        return {k: (Images if embeds[k] is reduced else Vectors)(torch.cat(items)) for k, items in held.items()}

    # Reading and comparing.

    def _read_forget(self) -> None:
        for inputs, labels in _read("forget", self.forget, self.workers):
            self._facts[""].add(inputs, labels)
        self._equal: dict[bytes, list[int]] = {}
        for i, digest in enumerate(self._facts[""].inputs):
            self._equal.setdefault(digest, []).append(i)

    def _compare(self, name: str, indices: Mapping[str, _Index], embeds: Mapping[str, Embed], start: int) -> None:
        facts = self._facts[name]
        position, found = 0, {kind: list[tuple[Tensor, Tensor]]() for kind in indices}
        for inputs, labels in _read(name, self.parts[name], self.workers):
            if start == 0:
                facts.add(inputs, labels)
            usual = self._usual(facts.inputs[position : position + len(inputs)])
            for kind, index in indices.items():
                found[kind].append(index.nearest(embeds[kind](inputs), usual))
            position += len(inputs)
        for kind, pairs in found.items():
            forget, likeness = (torch.cat(column) for column in zip(*pairs, strict=True))
            forget += start
            if start:
                before, most = self._nearest[name, kind]
                forget, likeness = torch.where(likeness > most, forget, before), torch.maximum(likeness, most)
            self._nearest[name, kind] = forget, likeness

    def _usual(self, digests: list[bytes]) -> Tensor:
        """Choose examples whose likeness says what is usual: by their hashes, since their places are chance."""
        share = min(1.0, USUAL / sum(self.sizes.values()))
        return torch.tensor([int.from_bytes(d[:4], "big") < share * 2**32 for d in digests], dtype=torch.bool)

    # What came out.

    def limits(self, threshold: float | None) -> dict[str, Limits]:
        """Return the limits by kind, found from the data where there is no threshold."""
        found = {}
        for kind in self.kinds.keys() - self.skipped.keys() if self.parts else ():
            usual = [self._likenesses(name, kind) for name in self.parts]
            likeness, related = (torch.cat(column) for column in zip(*usual, strict=True))
            limits = Limits(threshold, threshold) if threshold else find_limits(likeness, related)
            if kind == "features":
                limits = Limits(None, limits.possible, limits.compared)
            found[kind] = limits
        return {kind: found[kind] for kind in self.kinds if kind in found}

    def _likenesses(self, name: str, kind: str) -> tuple[Tensor, Tensor]:
        """Return likenesses of a part that are usual ones, and which of them are of classes that are forgotten."""
        facts, forgotten = self._facts[name], torch.tensor(sorted(set(self._facts[""].labels)))
        usual = self._usual(facts.inputs) & torch.tensor([digest not in self._equal for digest in facts.inputs])
        return self._nearest[name, kind][1][usual], torch.isin(torch.tensor(facts.labels)[usual], forgotten)

    def matches(self, limits: Mapping[str, Limits]) -> Iterator[tuple[str, int, str, int, float]]:
        """Yield part, index, kind, number of the example to forget and likeness, of each copy, by its surest kind."""
        for part in self.parts:
            facts = self._facts[part]
            found: dict[int, tuple[str, int, float]] = {}
            for kind, limit in reversed(list(limits.items())):
                forget, likeness = self._nearest[part, kind]
                for i in (likeness >= limit.possible).nonzero()[:, 0].tolist():
                    if limit.clear is not None or i not in found:
                        found[i] = kind, int(forget[i]), float(likeness[i])
            for i, digest in enumerate(facts.inputs):
                if digest in self._equal:
                    twins = self._equal[digest]
                    same = (k for k in twins if self.forget_label(k) == self.label(part, i))
                    found[i] = "exact", next(same, twins[0]), 1.0
            for i in sorted(found):
                yield (part, i, *found[i])

    def label(self, part: str, index: int) -> int:
        """Return the label of an example."""
        return self._facts[part].labels[index]

    def forget_label(self, number: int) -> int:
        """Return the label of an example to forget."""
        return self._facts[""].labels[number]

    def hash(self, part: str, index: int) -> str:
        """Return the hash of an example (hex)."""
        return self._facts[part].hashes[index].hex()

    def forget_hash(self, number: int) -> str:
        """Return the hash of an example to forget (hex)."""
        return self._facts[""].hashes[number].hex()

    def place(self, number: int) -> tuple[str, int]:
        """Return the set that an example to forget is in, and its index there."""
        k = bisect_right(self._starts, number) - 1
        return self.names[k], number - self._starts[k]


class _Facts:
    """What stays in memory of a part: labels, and the hashes of examples and of inputs."""

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.hashes: list[bytes] = []
        self.inputs: list[bytes] = []

    def add(self, inputs: Tensor, labels: Tensor) -> None:
        self.labels += labels.tolist()
        self.hashes += batch_hashes(inputs, labels)
        self.inputs += batch_hashes(inputs, torch.zeros_like(labels))


def _features(function: Embed) -> Embed:
    return lambda inputs: directions(function(inputs))


def _read(name: str, part: Dataset[Any], workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and labels in blocks of a bounded size."""
    size = max(1, min(BLOCK, BYTES // max(1, _bytes(part[0]))))
    for batch in Batches(part, size, name=name, workers=workers).iterate():
        inputs, labels = input_and_label(batch)
        if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
            raise DataError(
                f"Examples of the {name} set must be pairs or mappings of an input and a label, as tensors."
            )
        yield inputs.cpu(), labels.cpu()


def _bytes(example: Any) -> int:
    inputs, _ = input_and_label(example)
    return int(4 * np.prod(getattr(inputs, "shape", ())))
