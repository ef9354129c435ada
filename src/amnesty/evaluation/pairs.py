"""Pairs of runs on the same seeds: their differences, and the sign-flip test of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.seeds import derive

LARGEST_EXACT = 16
"""With up to this many pairs every assignment of signs is tried, 2^16; with more, `FLIPS` random ones."""

FLIPS = 19_999
"""Random assignments of signs that a test of more than `LARGEST_EXACT` pairs draws."""

ROUNDING = 1e-9  # sums this close, relative to their terms, count as tied


def sign_flip_p(differences: Sequence[float] | np.ndarray, *, seed: int = 0) -> float:
    """Return the two-sided p-value of the sign-flip test that paired differences, shape [n], are centred on 0.

    Exact up to `LARGEST_EXACT` pairs; beyond, ``(1 + hits) / (1 + FLIPS)`` of random signs. Sums that
    differ by rounding only count as tied. Neither the order nor the sign of all differences matters.

    Example:
        >>> sign_flip_p([1.0, 2.0, 3.0])
        0.25
    """
    numbers = one_per_seed("differences", differences)
    sizes = np.sort(np.abs(numbers))
    reached = abs(float(numbers.sum())) - ROUNDING * float(sizes.sum())
    if len(sizes) > LARGEST_EXACT:
        signs = np.random.default_rng(derive(seed, "sign flips")).integers(0, 2, (FLIPS, len(sizes)), dtype=np.int8)
        hits = np.count_nonzero(np.abs((2.0 * signs - 1) @ sizes) >= reached)
        return (1 + int(hits)) / (1 + FLIPS)
    sums = sizes[:1]  # the first sign can stay: the other half mirrors this one
    for size in sizes[1:]:
        sums = np.concatenate([sums + size, sums - size])
    return float(np.mean(np.abs(sums) >= reached))


def smallest_p(count: int) -> float:
    """Return the smallest p that `sign_flip_p` can reach with ``count`` pairs, ``2 / 2^count`` where exact."""
    return 2.0 ** (1 - count) if count <= LARGEST_EXACT else 1 / (1 + FLIPS)


def seeds_needed(threshold: float) -> int:
    """Return how many pairs a sign-flip test needs at least to reach a p of ``threshold``.

    >>> seeds_needed(0.05), seeds_needed(0.01)
    (6, 8)
    """
    return max(1, math.ceil(math.log2(2 / threshold)))


def paired_differences(
    names: tuple[str, str], first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Return ``first - second``, float64; what is only rounding of the values becomes 0."""
    one, other = (one_per_seed(name, side) for name, side in zip(names, (first, second), strict=True))
    if len(one) != len(other):
        raise InvalidInputError(
            f"`{names[0]}` has {len(one)} values and `{names[1]}` {len(other)}, but they are compared seed by seed. "
            "Pass one value of each per seed, in the same order."
        )
    differences = one - other
    noise = 8 * np.finfo(np.float64).eps * np.maximum(np.abs(one), np.abs(other))
    return np.where(np.abs(differences) <= noise, 0.0, differences)


def one_per_seed(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return ``values`` as float64, shape [n], n at least 1, all finite; else raise `InvalidInputError`."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise InvalidInputError(f"`{name}` must hold one number per seed, but has shape {list(numbers.shape)}.")
    if not np.isfinite(numbers).all():
        where = np.flatnonzero(~np.isfinite(numbers)).tolist()
        raise InvalidInputError(
            f"`{name}` must be finite, but is NaN or infinite at {where}. Drop these seeds on both sides."
        )
    return numbers


def checked_level(level: float) -> float:
    """Return ``level`` if it lies in (0, 1), else raise `InvalidInputError`."""
    if not 0 < level < 1:
        raise InvalidInputError(f"A level must lie between 0 and 1, such as 0.95; found {level}.")
    return float(level)


def seeds_in_words(count: int) -> str:
    """Return ``1 seed``, ``2 seeds`` and so on."""
    return "1 seed" if count == 1 else f"{count} seeds"
