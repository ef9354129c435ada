"""How sure a number is: intervals that hold with few examples and at the ends of their range.

All are two-sided and cover the true value with probability ``level``, nearly or at least, over the draw of examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.evaluation.curves import Roc, roc


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval, all in the unit of the estimate."""

    value: float
    low: float
    high: float


def wilson(successes: int, count: int, level: float = 0.95) -> Interval:
    """Return the share ``successes / count`` with its score interval, inside [0, 1], never of width zero.

    Its coverage is near ``level`` on average over the shares, somewhat below it for some; `clopper_pearson` is
    never below. Source: Wilson, JASA 22, 1927.

    Raises:
        InvalidInputError: no example, not 0 <= ``successes`` <= ``count``, or ``level`` not in (0, 1).

    >>> wilson(0, 10)
    Interval(value=0.0, low=0.0, high=0.2775...)
    """
    share = _share(successes, count)
    return Interval(share, *_score(share, count, normal_quantile(level)))


def clopper_pearson(successes: int, count: int, level: float = 0.95) -> Interval:
    """Return the share ``successes / count`` with its exact binomial interval: coverage is never below ``level``.

    Source: Clopper and Pearson, Biometrika 26, 1934. Raises as `wilson`.

    >>> clopper_pearson(0, 10)
    Interval(value=0.0, low=0.0, high=0.3084...)
    """
    from scipy.special import betaincinv

    share, tail = _share(successes, count), _tail(level)
    low = betaincinv(successes, count - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, count - successes, 1 - tail) if successes < count else 1.0
    return Interval(share, float(low), float(high))


def auc_interval(members: np.ndarray, nonmembers: np.ndarray, level: float = 0.95) -> Interval:
    """Return the AUC, see `amnesty.evaluation.curves.Roc.auc`, with an interval inside [0, 1]; O(n log n).

    DeLong's variance V, taken from placements, says how many Bernoulli trials the AUC is worth,
    ``AUC (1 - AUC) / V``; the interval is Wilson's for that many. Differs from DeLong, whose ``AUC +- z sqrt(V)``
    has width zero at 0 and 1 and covers 95 % of the time only in name when examples are few or well separated.
    Two cares for the same reason. The AUC is never taken to be worth more trials than for equal laws,
    ``3 n m / (n + m + 1)``, corrected for ties; and where all placements are equal, V says nothing and
    ``min(n, m)`` trials are taken, a lower bound for continuous scores.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; Birnbaum and Klose, Ann. Math. Stat. 28, 1957,
    for the bound.

    Raises:
        InvalidInputError: a side is empty, not one-dimensional, or holds NaN; ``level`` not in (0, 1).

    >>> auc_interval(np.arange(10.0, 20.0), np.arange(10.0))
    Interval(value=1.0, low=0.7224..., high=1.0)
    """
    return auc_interval_of(roc(members, nonmembers), level)


def auc_interval_of(curve: Roc, level: float = 0.95) -> Interval:
    """Return `auc_interval` of scores that are sorted already; linear."""
    return Interval(curve.auc, *_score(curve.auc, _trials(curve), normal_quantile(level)))


def difference_of_rates(
    successes: int, count: int, other_successes: int, other_count: int, level: float = 0.95
) -> Interval:
    """Return the difference of two shares of different examples, first minus other, inside [-1, 1].

    Source: Newcombe, Statistics in Medicine 17, 1998, 873-890, method 10, which joins two Wilson intervals.
    Raises as `wilson`.

    >>> difference_of_rates(7, 8, 3, 8)
    Interval(value=0.5, low=0.0292..., high=0.7593...)
    """
    shares = _share(successes, count), _share(other_successes, other_count)
    return difference_of_shares(*shares, count, other_count, level=level)


def difference_of_shares(
    share: float, other: float, count: float, other_count: float, *, agreement: float = 0.0, level: float = 0.95
) -> Interval:
    """Return `difference_of_rates` of shares that need not be whole numbers of examples, such as means of shares.

    ``agreement`` is the correlation of the two, 0 for different examples.
    """
    z = normal_quantile(level)
    low, high = _score(share, count, z)
    other_low, other_high = _score(other, other_count, z)
    value = share - other
    return Interval(
        value,
        max(-1.0, value - _side(share - low, other_high - other, agreement)),
        min(1.0, value + _side(high - share, other - other_low, agreement)),
    )


def paired_difference(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Interval:
    """Return the share of ``first`` minus that of ``second``, two models' verdicts on the same examples.

    The interval rests, like McNemar's test, on where the two disagree, and stays of positive width where they never
    do; inside [-1, 1].

    Source: Newcombe, Statistics in Medicine 17, 1998, 2635-2650, method 10: Wilson intervals of the two shares,
    joined with their correlation, corrected for continuity.

    Args:
        first: right or wrong, by example; bool, shape [n].
        second: of the other model, in the same order.
        level: of confidence.

    Raises:
        InvalidInputError: no example, other types or shapes, or ``level`` not in (0, 1).

    >>> paired_difference(np.arange(50) < 48, (np.arange(50) < 36) | (np.arange(50) >= 48))
    Interval(value=0.2, low=0.0569..., high=0.3404...)
    """
    first, second = np.asarray(first), np.asarray(second)
    verdicts = first.dtype == bool and second.dtype == bool
    if not verdicts or first.shape != second.shape or first.ndim != 1 or not first.size:
        raise InvalidInputError(
            "A paired difference needs two bool arrays of one shape [n], n at least 1, found "
            f"{first.dtype} {first.shape} and {second.dtype} {second.shape}."
        )
    n = len(first)
    shares = float(first.mean()), float(second.mean())
    found = difference_of_shares(*shares, n, n, agreement=_correlation(first, second), level=level)
    return Interval((int(first.sum()) - int(second.sum())) / n, found.low, found.high)


def _share(successes: int, count: int) -> float:
    if count < 1 or not 0 <= successes <= count:
        raise InvalidInputError(
            f"A rate needs at least one example and 0 <= successes <= count, found {successes} of {count}."
        )
    return successes / count


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise InvalidInputError(f"`level` must lie between 0 and 1, such as 0.95, found {level}.")
    return (1 - level) / 2


def normal_quantile(level: float) -> float:
    """Return how many standard deviations a normal variable stays within with probability ``level``."""
    from scipy.special import ndtri

    return float(-ndtri(_tail(level)))


def _score(share: float, count: float, z: float) -> tuple[float, float]:
    """Return Wilson's limits. At shares of 0 and 1 one of them is the share itself, which rounding must not move."""
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return (0.0 if share == 0 else max(0.0, center - half)), (1.0 if share == 1 else min(1.0, center + half))


def _side(own: float, other: float, agreement: float) -> float:
    return math.sqrt(max(0.0, own**2 - 2 * agreement * own * other + other**2))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the phi coefficient of two verdicts, less Newcombe's correction where it is positive."""
    n = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    one, two = both + only_first, both + only_second
    margins = one * (n - one) * two * (n - two)
    if margins == 0:
        return 0.0
    excess = both * neither - only_first * only_second
    return (excess if excess < 0 else max(0.0, excess - n / 2)) / math.sqrt(margins)


def _trials(curve: Roc) -> float:
    """Return how many Bernoulli trials the AUC is worth; see `auc_interval`."""
    n, m, area = curve.members, curve.nonmembers, curve.auc
    ours, theirs = np.diff(curve.members_called), np.diff(curve.nonmembers_called)
    if min(n, m) == 1:
        return 1.0
    below = 1 - (curve.nonmembers_called[1:] - theirs / 2) / m  # placements of the members of each step
    above = (curve.members_called[1:] - ours / 2) / n  # and of its non-members
    variance = float(ours @ (below - area) ** 2 / ((n - 1) * n) + theirs @ (above - area) ** 2 / ((m - 1) * m))
    if variance < 1e-20:  # all placements equal, up to rounding
        return float(min(n, m))
    untied = 1 - float((((ours + theirs) / (n + m)) ** 3).sum())
    return min(area * (1 - area) / variance, 3 * n * m / (n + m + 1) / untied)
