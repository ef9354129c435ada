"""The law of an example's margins over models, fitted without the group of the model that is to be scored."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from amnesty.errors import InvalidInputError

ENOUGH = 2
"""Models that must remain on each side of each example when a group is left out."""
_CHUNK = 4_000_000  # numbers held at once by kernel densities


class Fit(NamedTuple):
    """What remains of one side when a group is left out: a row per group, a column per example.

    ``models``: on how many models mean and variance rest.
    """

    mean: np.ndarray
    variance: np.ndarray
    models: np.ndarray


def leave_group_out(
    values: np.ndarray,
    mask: np.ndarray,
    codes: np.ndarray,
    asked: np.ndarray,
    shrink: float,
    side: str,
    location: str = "mean",
) -> Fit:
    """Fit the masked values of each example without each group in turn: sums of all minus sums of the group.

    With m models left, ``variance = (shrink V + (m - 1) s^2) / (shrink + m - 1)``, V being ``s^2`` pooled over the
    examples. Only the median takes a loop, over groups.

    Args:
        values: margins, shape [M, n].
        mask: which of them belong to this side, bool, shape [M, n].
        codes: the group of each model, shape [M].
        asked: the groups to leave out, shape [G]; the rows of the result.
        shrink: weight of the pooled variance, in models.
        side: what these models did, for the error.
        location: "mean" or "median".

    Raises:
        InvalidInputError: an example with fewer than two models left.
    """
    first = values[mask.argmax(0), np.arange(values.shape[1])]
    x = np.where(mask, values - first, 0.0)
    centre = x.sum(0) / np.maximum(mask.sum(0), 1)  # in two steps: an example with equal values becomes all zeros
    x = np.where(mask, x - centre, 0.0)
    left = (codes != asked[:, None]).astype(np.float64)  # [groups, models]
    models = left @ mask.astype(np.float64)
    _check_counts(models, side)
    mean = left @ x / models
    squares = np.maximum(left @ (x * x) - models * mean**2, 0.0)
    pooled = squares.sum(1, keepdims=True) / (models - 1).sum(1, keepdims=True)
    variance = (shrink * pooled + squares) / (shrink + models - 1)
    if location == "median":
        kept = [np.where(mask & (codes != code)[:, None], x, np.nan) for code in asked]
        mean = np.stack([np.nanmedian(table, axis=0) for table in kept])
    return Fit(mean + centre + first, variance, models)


def with_floor(sides: list[Fit]) -> list[Fit]:
    """Keep variances above a millionth of the mean one; where every value is equal any number will do."""
    usual = np.mean([side.variance.mean() for side in sides])
    floor = 1e-6 * usual if usual > 0 else 1.0
    return [side._replace(variance=np.maximum(side.variance, floor)) for side in sides]


def log_normal(values: np.ndarray, fit: Fit, which: np.ndarray) -> np.ndarray:
    """Return the log density of ``values``, shape [K, n], each row by the fit of number ``which``, shape [K]."""
    variance = fit.variance[which]
    return np.asarray(-0.5 * ((values - fit.mean[which]) ** 2 / variance + np.log(2 * math.pi * variance)))


def log_kernels(values: np.ndarray, mask: np.ndarray, codes: np.ndarray, fit: Fit) -> np.ndarray:
    """Return the log density at each of ``values``, shape [M, n], by Gaussian kernels on the masked ones.

    A model's own group is left out; ``fit`` has a row for each group. The bandwidth is Silverman's,
    ``sd (4 / 3m)^(1/5)``. A few examples are done at a time.
    """
    sources = np.argsort(~mask, axis=0, kind="stable")[: mask.sum(0).max()]  # masked models first
    width = np.sqrt(fit.variance) * (4 / (3 * fit.models)) ** 0.2
    step = max(1, _CHUNK // (len(values) * len(sources)))
    parts = [slice(start, start + step) for start in range(0, values.shape[1], step)]
    found = [_kernels(values[:, p], mask[:, p], codes, sources[:, p], width[codes, p]) for p in parts]
    return np.asarray(np.concatenate(found, axis=1) - np.log(fit.models[codes] * math.sqrt(2 * math.pi)))


def equal_numbers(
    inside: np.ndarray, outside: np.ndarray, codes: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Thin the larger side, in each group and example, to the size of the smaller one."""
    kept = np.zeros_like(inside), np.zeros_like(outside)
    for code in range(codes.max() + 1):
        rows = codes == code
        sides = inside[rows], outside[rows]
        least = np.minimum(*(side.sum(0) for side in sides))
        for side, target in zip(sides, kept, strict=True):
            # Masked values get keys below 1, in a random order; the `least` first of them stay.
            keys = np.where(side, random.random(side.shape), 2.0)
            target[rows] = side & (keys.argsort(0).argsort(0) < least)
    return kept


def _kernels(
    values: np.ndarray, mask: np.ndarray, codes: np.ndarray, sources: np.ndarray, width: np.ndarray
) -> np.ndarray:
    near = np.take_along_axis(values, sources, axis=0)
    used = np.take_along_axis(mask, sources, axis=0) & (codes[sources] != codes[:, None, None])
    exponent = -0.5 * ((values[:, None] - near) / width[:, None]) ** 2  # [models, sources, examples]
    exponent[~used] = -np.inf
    top = exponent.max(1)
    return np.asarray(top + np.log(np.exp(exponent - top[:, None]).sum(1) / width))


def _check_counts(models: np.ndarray, side: str) -> None:
    poor = np.flatnonzero(models.min(0) < ENOUGH)
    if len(poor):
        more = f" and {len(poor) - 5} more" if len(poor) > 5 else ""
        raise InvalidInputError(
            f"Each example needs at least {ENOUGH} models that {side} when the scored model's group is left out, but "
            f"examples {poor[:5].tolist()}{more} have as few as {int(models[:, poor].min())}. Train more shadow "
            "models, or leave those examples out."
        )
