"""How alike two vectors are, and from which likeness on two examples pass for copies of each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from amnesty.errors import DataError
from amnesty.seeds import generator

CLEAR, POSSIBLE = 0.9, 0.8  # lowest likenesses of a copy, and of what might be one
CLEAR_DEVIATIONS, POSSIBLE_DEVIATIONS = 5.0, 4.0
ENOUGH = 30  # likenesses to know from how they are spread
MANY, FEWER = 200, 2.0  # with less than so many, so many deviations more: theirs is known less well
LONGEST = 1024  # numbers in a vector to compare; longer ones are added up to so many
QUARTILE = 0.6745  # of the normal distribution


@dataclass(frozen=True)
class Limits:
    """From which likeness on two examples count as copies.

    Attributes:
        clear: a likeness from which on there is a copy. ``None``: it takes other evidence to be sure.
        possible: a likeness from which on a person should look.
        compared: number of likenesses that these limits were found from; 0 where they are fixed ones.
    """

    clear: float | None
    possible: float
    compared: int = 0


def find_limits(likenesses: Tensor, related: Tensor | None = None) -> Limits:
    """Find the limits from what is usual: the likeness of each example to the one to forget that it resembles most.

    Nearly all examples are no copies, so the bulk of these numbers says how alike two examples of this data are that
    have nothing to do with each other: not very, if they are photographs; very, if they are handwritten digits. With
    z = artanh(likeness), which for a correlation is about normal (Fisher 1915), a clear copy lies 5 deviations above
    the median, a possible one 4, and two more each where fewer than 200 are compared. The deviation is that of the
    upper quartile: copies, as long as they are less than a quarter of all, do not move it. And a clear copy has a
    likeness of 0.9 at least, a possible one of 0.8.

    Args:
        likenesses: in [-1, 1], shape [n]. Fewer than 30 say nothing: the limits are then 0.9 and 0.8.
        related: shape [n], bool: which of them are of a class to be forgotten. These are more alike; where they are
            few, since a whole class is forgotten, they must be looked at by themselves. The higher limits count.

    >>> find_limits(torch.linspace(-0.3, 0.3, 1000))
    Limits(clear=0.9, possible=0.8, compared=1000)
    >>> limits = find_limits(torch.linspace(0.93, 0.97, 1000))
    >>> f"{limits.clear:.3f} {limits.possible:.3f}"
    '0.991 0.987'
    """
    if related is not None and not bool(related.all()):
        every, mine = find_limits(likenesses), find_limits(likenesses[related])
        return max(every, mine, key=lambda limits: limits.clear or 0.0)
    if len(likenesses) < ENOUGH:
        return Limits(CLEAR, POSSIBLE)
    # Sorted, not `torch.quantile`, which refuses more than 2^24 numbers.
    z = likenesses.to(torch.float64).clamp(-1 + 1e-7, 1 - 1e-7).atanh().sort().values
    middle, upper = (float(z[round(share * (len(z) - 1))]) for share in (0.5, 0.75))
    deviation, more = (upper - middle) / QUARTILE, FEWER if len(z) < MANY else 0.0
    clear = max(CLEAR, math.tanh(middle + (CLEAR_DEVIATIONS + more) * deviation))
    return Limits(clear, max(POSSIBLE, math.tanh(middle + (POSSIBLE_DEVIATIONS + more) * deviation)), len(z))


class Vectors:
    """Vectors to be searched for, shape [n, D].

    The likeness of a and b is ``2 <a, b> / (|a|^2 + |b|^2)``, which is 1 for equal vectors only, and the
    cosine of unit vectors.
    """

    def __init__(self, vectors: Tensor) -> None:
        self.vectors, self.squares = vectors, vectors.square().sum(1)

    def nearest(self, vectors: Tensor, exact: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return, for each of ``vectors``, shape [B, D], which is most alike, and its likeness; shape [B] each."""
        if vectors.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"Examples to compare must be of one size, found {self.vectors.shape[1]} and {vectors.shape[1]} "
                "numbers."
            )
        sums = vectors.square().sum(1)[:, None] + self.squares
        found = (2 * (vectors @ self.vectors.T) / sums).nan_to_num(-1.0).max(dim=1)  # 0 / 0: nothing in either
        return found.indices, found.values.clamp(-1, 1)


class Coordinates:
    """How inputs that are no images become vectors: each number in deviations from its mean.

    Of more than 1024 numbers, random sums with random signs are taken, which keep distances (Charikar et al. 2002).

    Args:
        inputs: all of the data, batch by batch, shape [B, ...].
    """

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        count, sums, squares = 0, torch.zeros(()), torch.zeros(())
        for batch in inputs:
            flat = _flat(batch).to(torch.float64)
            if count and flat.shape[1] != len(sums):
                raise DataError(
                    f"Examples to compare must be of one size, found {len(sums)} and {flat.shape[1]} numbers."
                )
            count, sums, squares = count + len(flat), sums + flat.sum(0), squares + flat.square().sum(0)
        self.mean = (sums / count).float()
        deviation = (squares / count - (sums / count).square()).clamp_min(0).sqrt().float()
        constant = deviation <= 1e-6 * self.mean.abs()
        self.scale = torch.where(constant, 0.0, 1 / deviation.clamp_min(1e-30))
        draw, size = generator(0, "random sums"), len(self.mean)
        self.signs = 2.0 * torch.randint(2, (size,), generator=draw) - 1
        self.sums = torch.randint(LONGEST, (size,), generator=draw)

    def of(self, inputs: Tensor) -> Tensor:
        """Return inputs, shape [B, ...], as vectors, shape [B, D], D at most 1024."""
        flat = (_flat(inputs) - self.mean) * self.scale
        if flat.shape[1] <= LONGEST:
            return flat
        return flat.new_zeros(len(flat), LONGEST).index_add_(1, self.sums, flat * self.signs)


def directions(features: Tensor) -> Tensor:
    """Return features, shape [B, ...], as vectors of length 1, shape [B, d]: whose likeness is their cosine."""
    return torch.nn.functional.normalize(_flat(features.cpu()))


def _flat(inputs: Tensor) -> Tensor:
    return inputs.flatten(1).to(torch.float32).nan_to_num(0.0, 0.0, 0.0)
