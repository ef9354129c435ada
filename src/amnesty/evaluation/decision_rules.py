"""Rules that call a model unlearned or retrained by one example's margin, their error rates and their epsilon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ENDS = 64
"""Pooled quantiles between which the intervals of the published score lie."""
BUFFER = 2.0  # how much wider or narrower than the smaller range an interval may be, in units of the margin
_CHUNK = 8_000_000  # numbers held at once


def epsilon_of_rates(false_positive: np.ndarray, false_negative: np.ndarray, delta: float) -> np.ndarray:
    """Return the epsilon of attacks with these rates; infinite if both are 0, -inf if exactly one is."""
    with np.errstate(divide="ignore", invalid="ignore"):  # what is NaN here has exactly one rate of 0
        first = np.log(np.maximum(1 - delta - false_positive, 0.0)) - np.log(false_negative)
        second = np.log(np.maximum(1 - delta - false_negative, 0.0)) - np.log(false_positive)
    discarded = (false_positive == 0) != (false_negative == 0)
    return np.where(discarded, -np.inf, np.maximum(first, second))


def by_examples(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], unlearned: np.ndarray, retrained: np.ndarray, cells: int
) -> np.ndarray:
    """Apply ``function``, which holds so many ``cells`` for one example, to a few examples at a time."""
    step = max(1, _CHUNK // cells)
    starts = range(0, unlearned.shape[1], step)
    return np.concatenate([function(unlearned[:, s : s + step], retrained[:, s : s + step]) for s in starts])


def _cuts(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a threshold after each of the sorted margins, and how many of each side lie below it.

    Shape [N + N' - 1, n] each; thresholds between equal margins, which do not exist, are NaN.
    """
    values = np.concatenate([unlearned, retrained])
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    below = np.cumsum(order < len(unlearned), axis=0)
    of_retrained = np.arange(1, len(values) + 1)[:, None] - below
    between = ordered[:-1] + (ordered[1:] - ordered[:-1]) / 2
    return np.where(ordered[1:] > ordered[:-1], between, np.nan), below[:-1], of_retrained[:-1]


def best_threshold(unlearned: np.ndarray, retrained: np.ndarray, *, delta: float, by_median: bool) -> np.ndarray:
    """Return the largest epsilon of all single thresholds, for each example; see `epsilon.epsilon_scores`."""
    thresholds, below, of_retrained = _cuts(unlearned, retrained)
    n, m = len(unlearned), len(retrained)
    up = epsilon_of_rates((m - of_retrained) / m, below / n, delta)
    down = epsilon_of_rates(of_retrained / m, (n - below) / n, delta)
    above = np.median(unlearned, axis=0) >= np.median(retrained, axis=0)
    found = np.where(above, up, down) if by_median else np.maximum(up, down)
    return np.asarray(np.where(np.isnan(thresholds), -np.inf, found).max(0))


def best_interval(unlearned: np.ndarray, retrained: np.ndarray, *, delta: float) -> np.ndarray:
    """Return the largest epsilon of intervals with the side of the smaller range inside, for each example."""
    sides = unlearned, retrained
    ends = _ends(np.sort(np.concatenate(sides), axis=0))
    left, right = np.triu_indices(len(ends))
    outside = []
    for side in sides:
        above, upto = (side > ends[:, None]).sum(1), (side >= ends[:, None]).sum(1)  # [ends, n]
        outside.append(1 - (upto[left] - above[right]) / len(side))
    ranges = [np.ptp(side, axis=0) for side in sides]
    allowed = np.abs(ends[right] - ends[left] - np.minimum(*ranges)) <= BUFFER
    narrow = ranges[0] <= ranges[1]  # whether inside means unlearned
    missed = np.where(narrow, outside[0], outside[1])
    wrong = 1 - np.where(narrow, outside[1], outside[0])
    return np.asarray(np.where(allowed, epsilon_of_rates(wrong, missed, delta), -np.inf).max(0))


def _ends(ordered: np.ndarray) -> np.ndarray:
    """Choose the quarter of `ENDS` smallest and largest margins, where the best intervals end, and quantiles."""
    count = len(ordered)
    edge = np.arange(ENDS // 4)
    places = np.concatenate([edge, np.linspace(0, count - 1, ENDS // 2).round().astype(int), count - 1 - edge])
    return np.asarray(ordered[np.unique(places[(places >= 0) & (places < count)])])


def chosen_threshold(unlearned: np.ndarray, retrained: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each example, the threshold of the largest smoothed epsilon and whether unlearned lie above it."""
    thresholds, below, of_retrained = _cuts(unlearned, retrained)
    n, m = len(unlearned), len(retrained)
    up = epsilon_of_rates((m - of_retrained + 1) / (m + 2), (below + 1) / (n + 2), delta)
    down = epsilon_of_rates((of_retrained + 1) / (m + 2), (n - below + 1) / (n + 2), delta)
    best = np.where(np.isnan(thresholds), -np.inf, np.maximum(up, down)).argmax(0), np.arange(thresholds.shape[1])
    return thresholds[best], up[best] >= down[best]


def upper_bounds(errors: np.ndarray, count: int, alpha: float) -> np.ndarray:
    """Return the upper Clopper-Pearson bounds at ``alpha`` of ``errors`` out of ``count``."""
    from scipy.stats import beta

    every = np.arange(count + 1)
    bounds = beta.ppf(1 - alpha, every + 1, np.maximum(count - every, 1))
    return np.asarray(np.where(every == count, 1.0, bounds)[errors])
