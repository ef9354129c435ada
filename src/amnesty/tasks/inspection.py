"""One pass over a part of the data before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amnesty.data import Batches, batch_hashes
from amnesty.errors import DataError, SplitError
from amnesty.tasks.base import Source

PROBE = 2  # examples that show whether the model takes the data; batch norm is in evaluation mode


@dataclass(frozen=True)
class Inspection:
    """What a part holds: labels, shape [n], the SHA-256 of each example, in the order read, and its first inputs."""

    part: str
    labels: Tensor
    hashes: tuple[bytes, ...]
    probe: Tensor

    def check_labels(self, classes: int) -> None:
        """Raise `DataError` if a label is outside ``[0, classes)``."""
        wrong = ((self.labels < 0) | (self.labels >= classes)).nonzero()[:, 0]
        if len(wrong):
            first = int(wrong[0])
            raise DataError(
                f"{len(wrong)} labels of the {self.part} set are outside the model's {classes} classes, such as "
                f"{int(self.labels[first])} of example {first}. Labels must be in [0, {classes})."
            )


def inspect(
    part: str, source: Source, unpack: Callable[[Any], tuple[Tensor, Tensor]], hashed: bool = True
) -> Inspection:
    """Read a part once; without ``hashed`` there are no hashes.

    Raises:
        DataError: inputs of different shapes or that cannot be batched, or one that holds NaN or infinity;
            the message names it.
    """
    labels: list[Tensor] = []
    hashes: list[bytes] = []
    probe: Tensor | None = None
    count = 0
    for batch in _read(part, source):
        inputs, label = unpack(batch)
        probe = inputs[:PROBE].clone() if probe is None else probe
        if inputs.shape[1:] != probe.shape[1:]:
            raise DataError(
                f"Inputs of the {part} set have different shapes: {list(probe.shape[1:])} and, from example {count} "
                f"on, {list(inputs.shape[1:])}."
            )
        # A sum is finite only if each number is; it takes a fraction of the time of looking at each.
        if inputs.is_floating_point() and not inputs.sum().isfinite():
            finite = inputs.reshape(len(inputs), -1).isfinite().all(dim=1)
            if not finite.all():
                first = count + int((~finite).nonzero()[0])
                raise DataError(f"Example {first} of the {part} set holds NaN or infinity. Clean or drop it.")
        labels.append(label.cpu())
        if hashed:
            hashes += batch_hashes(inputs, labels[-1])
        count += len(inputs)
    if probe is None:
        raise SplitError(f"The {part} set gave no batch.")
    return Inspection(part, torch.cat(labels), tuple(hashes), probe)


def _read(part: str, source: Source) -> Iterator[Any]:
    batches = Batches(source, name=part).iterate()
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, TypeError) as error:
            raise DataError(f"Examples of the {part} set cannot be put into one batch: {error}") from error
        yield batch


def refuse_duplicates(forget: Inspection, retain: Inspection) -> None:
    """Raise `SplitError` if examples of the forget set are in the retain set too: they would be taught again."""
    where = {h: i for i, h in enumerate(retain.hashes)}
    shared = [(i, where[h]) for i, h in enumerate(forget.hashes) if h in where]
    if shared:
        raise SplitError(
            f"{len(shared)} of {len(forget.hashes)} examples to forget are in the retain set too (such as forget "
            f"{shared[0][0]} = retain {shared[0][1]}): they would be learnt again. Remove them from `retain`, or "
            "pass `duplicates='keep'`."
        )
