"""Batches in a seeded order, a fresh iterator for each pass, and how streams of them are paired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal, get_args

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from amnesty.data.examples import read_batch, reads_batches
from amnesty.errors import DataError, InvalidInputError, SplitError
from amnesty.seeds import generator

Pairing = Literal["cycle_forget", "retain_tail", "truncate", "sequential"]
"""How the players' batches meet in one pass over the data; see `pair`."""

Meeting = Literal["cycle_forget", "retain_tail", "truncate"]
"""A `Pairing` that brings the players together."""

PAIRINGS: tuple[Pairing, ...] = get_args(Pairing)


class Batches:
    """Batches of one part of the data; every pass has an order of its own that the seed fixes.

    A pass of n examples is cut into ``ceil(n / batch_size)`` batches whose sizes differ by at most one, so
    that no batch is a lone leftover, on which batch norm would fail.

    Args:
        source: a data set of ``(input, label)`` examples, or a ``DataLoader``, which is then used as it is,
            with its own batch size and order.
        batch_size: examples in a batch, at most.
        seed: of the order; ``None`` keeps the order of the data set.
        name: of the stream; streams of different names have independent orders.
        workers: processes that read a data set which is not in memory.

    Raises:
        InvalidInputError: ``batch_size`` is below 1.
        SplitError: there is no example.
        DataError: the source has no length, so that passes over it cannot be counted, or drops its last batch.
    """

    def __init__(
        self,
        source: Dataset[Any] | DataLoader[Any],
        batch_size: int = 256,
        seed: int | None = None,
        name: str = "",
        workers: int = 0,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InvalidInputError(f"`batch_size` must be a whole number of at least 1, found {batch_size!r}.")
        if any(getattr(x, "drop_last", False) for x in (source, getattr(source, "batch_sampler", None))):
            raise DataError(
                f"The loader of the {name or 'data'} set has `drop_last=True`: it would leave examples out."
            )
        count = _length(source)
        if count is None:
            raise DataError(f"The {name or 'data'} set has no length; give a map-style data set.")
        if count == 0:
            raise SplitError(f"The {name or 'data'} set is empty.")
        self.source, self.seed, self.name, self.workers = source, seed, name, workers
        self._count = count if isinstance(source, DataLoader) else -(-count // batch_size)

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return self._count

    def iterate(self, *which: object, skip: int = 0) -> Iterator[Any]:
        """Start the pass called ``which``; the same name gives the same order again.

        The first ``skip`` batches are left out. They are not read, but for those of worker processes, whose random
        states only move by reading, and of a ``DataLoader``.
        """
        if isinstance(self.source, DataLoader):
            return islice(iter(self.source), skip, None)
        count = len(self.source)  # type: ignore[arg-type]
        order = torch.arange(count)
        if self.seed is not None:
            order = torch.randperm(count, generator=generator(self.seed, "order", self.name, *which))
        chunks = [chunk.tolist() for chunk in order.tensor_split(self._count)]
        if reads_batches(self.source):
            return (read_batch(self.source, chunk) for chunk in chunks[skip:])
        unread = 0 if self.workers else skip
        # The generator of a loader only seeds its workers; without one it would draw from the caller's.
        loader = DataLoader(
            self.source,
            batch_sampler=chunks[unread:],
            num_workers=self.workers,
            generator=generator(self.seed or 0, "workers", self.name, *which),
        )
        return islice(iter(loader), skip - unread, None)


def _length(source: Any) -> int | None:
    try:
        return None if isinstance(source, IterableDataset) else len(source)
    except TypeError:
        return None


def pair(streams: Mapping[str, Batches], policy: Pairing, epoch: int, skip: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the batches of each step of one pass: name of the stream -> its batch.

    The last stream leads (the retaining one); the others accompany it.

    - ``"cycle_forget"``: every step has a batch of each; streams that end start again, freshly shuffled.
    - ``"retain_tail"``: the others come while they last, then the leader goes on alone (the pairing of the
      published MUNBa and Scissorhands code).
    - ``"truncate"``: the pass ends with the shortest stream.
    - ``"sequential"``: one stream after the other, the leader last (the published RandomLabels and SalUn).

    The pass of the first three never outlasts the leader's, so a forget set larger than the retain set is
    covered over several epochs.

    The first ``skip`` steps are left out; see `Batches.iterate`.

    Raises:
        InvalidInputError: no stream, or an unknown policy.
    """
    check_pairing(streams, policy)
    if policy == "sequential":
        for name, batches in streams.items():
            for batch in batches.iterate(epoch, skip=min(skip, len(batches))):
                yield {name: batch}
            skip = max(0, skip - len(batches))
        return
    passes, running = dict.fromkeys(streams, 0), {}
    for name, batches in streams.items():
        if policy == "cycle_forget":
            passes[name], left_out = divmod(skip, len(batches))
        else:
            left_out = min(skip, len(batches))
        again = (passes[name],) if passes[name] else ()
        running[name] = batches.iterate(epoch, *again, skip=left_out)
    for _ in range(skip, steps(streams, policy)):
        step = {}
        for name in streams:
            batch = next(running[name], None)
            if batch is None and policy == "cycle_forget":
                passes[name] += 1
                running[name] = streams[name].iterate(epoch, passes[name])
                batch = next(running[name])
            if batch is not None:
                step[name] = batch
        yield step


def steps(streams: Mapping[str, Batches], policy: Pairing) -> int:
    """Return the number of steps in one pass. Raises as `pair` does."""
    check_pairing(streams, policy)
    lengths = [len(batches) for batches in streams.values()]
    if policy == "sequential":
        return sum(lengths)
    return min(lengths) if policy == "truncate" else lengths[-1]


def check_pairing(streams: Mapping[str, Batches], policy: str) -> None:
    """Raise `InvalidInputError` unless there is a stream and ``policy`` is a `Pairing`."""
    if not streams:
        raise InvalidInputError("There is no stream of batches to pair.")
    if policy not in PAIRINGS:
        raise InvalidInputError(f"`pairing` must be one of {', '.join(PAIRINGS)}, found {policy!r}.")
