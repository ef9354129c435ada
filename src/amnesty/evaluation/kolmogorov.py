"""The two-sample Kolmogorov-Smirnov distance: its law where both samples are alike, and many resamples at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

EXACT = 500
"""Up to so many examples on both sides together p-values are exact."""
ROOM = 4_000_000  # numbers held at a time by `Pair.resampled`


@dataclass(frozen=True)
class Pair:
    """Two samples, sorted together, so that resamples need no sorting.

    Attributes:
        sizes: of the samples.
        order: of the examples of both, first sample first, by score.
        ends: bool, in that order, where the score differs from the next.
    """

    sizes: tuple[int, int]
    order: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> Pair:
        """Sort two samples; the order of the examples in either does not matter, even for resamples."""
        both = np.concatenate([np.sort(first), np.sort(second)])
        order = np.argsort(both, kind="stable")
        return cls((len(first), len(second)), order, np.append(np.diff(both[order]) > 0, True))

    def gaps(self, counts: np.ndarray, sizes: tuple[int, int]) -> np.ndarray:
        """Return the difference of the distribution functions at each distinct score, shape [..., distinct].

        Args:
            counts: how often each example of both samples occurs, shape [..., n + m].
            sizes: how many there are of each in all.
        """
        weights = np.repeat([1 / sizes[0], -1 / sizes[1]], self.sizes)
        return np.cumsum((counts * weights)[..., self.order], axis=-1)[..., self.ends]

    def observed(self) -> np.ndarray:
        """Return the `gaps` of the samples as they are."""
        return self.gaps(np.ones(sum(self.sizes)), self.sizes)

    def resampled(
        self, sizes: tuple[int, int], draws: int, random: np.random.Generator, centre: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Return the largest ``|gaps - centre|`` of each of ``draws`` pairs of ``sizes``, shape [draws].

        Each sample is drawn from with replacement, by itself.
        """
        chunk = max(1, ROOM // (sum(self.sizes) + sum(sizes)))
        found = []
        for start in range(0, draws, chunk):
            rows = min(chunk, draws - start)
            counts = np.concatenate(
                [_counts(n, take, rows, random) for n, take in zip(self.sizes, sizes, strict=True)], axis=1
            )
            found.append(np.abs(self.gaps(counts, sizes) - centre).max(axis=1))
        return np.concatenate(found)


def _counts(n: int, take: int, rows: int, random: np.random.Generator) -> np.ndarray:
    """Return how often each of n examples is drawn in ``take`` draws with replacement, shape [rows, n]."""
    drawn = random.integers(n, size=(rows, take)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


def p_value(distance: float, n: int, m: int) -> float:
    """Return the chance that two like samples of n and m lie at least as far apart, two-sided.

    Exact up to `EXACT` examples together, for scores without ties (with ties the true chance is smaller); beyond,
    the law of the one-sample distance of ``n m / (n + m)`` examples stands in, as SciPy has it.
    """
    if n + m <= EXACT:
        return _exact(round(distance * n * m), n, m)
    from scipy.stats import kstwo

    return float(kstwo.sf(distance, round(n * m / (n + m))))


@lru_cache(maxsize=256)  # one size of samples is compared for many models
def critical_distance(alpha: float, n: int, m: int) -> float:
    """Return the smallest distance whose `p_value` is at most ``alpha``; infinite if there is none."""
    if n + m > EXACT:
        from scipy.stats import kstwo

        return float(kstwo.isf(alpha, round(n * m / (n + m))))
    unit = math.gcd(n, m)  # distances are whole multiples of unit / (n m)
    low, high = 0, n * m // unit  # p > alpha at low, <= alpha at high
    if _exact(n * m, n, m) > alpha:
        return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _exact(middle * unit, n, m) <= alpha else (middle, high)
    return high * unit / (n * m)


def _exact(least: int, n: int, m: int) -> float:
    """Return the chance that ``|i m - j n|`` reaches ``least`` as n and m examples are met in random order.

    i and j count those met of either sample; the steps of the walk are taken for all i at once.
    """
    n, m = sorted((n, m))
    i = np.arange(n + 1)
    inside = np.zeros(n + 1)
    inside[0] = least > 0
    for t in range(n + m):
        left_of_first = inside * (n - i)
        left_of_second = inside * (m - (t - i))  # 0 where inside is 0, that is, where j is out of range
        inside = left_of_second / (n + m - t)
        inside[1:] += left_of_first[:-1] / (n + m - t)
        inside[np.abs(i * m - (t + 1 - i) * n) >= least] = 0.0
    return float(np.clip(1.0 - inside.sum(), 0.0, 1.0))
