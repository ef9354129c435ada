"""KLoM: how far, for one example at a time, is the law of margins under unlearned models from that under oracles?

Oracles are models retrained without the forget set. Both laws are known from some models only, so even equal laws
are some way apart; `klom_floor` says how far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.evaluation.tables import as_margins, same_examples
from amnesty.seeds import derive

ENOUGH_MODELS = 8
"""Models needed on each side; published values rest on 100."""
EPSILON = 1e-5
"""Share that stands for none at all: no value is above ``ln(1 / EPSILON)``, about 11.5."""
CLIP = 100.0
"""Margins are cut off here, on both sides, before they are put into bins."""
_CHUNK = 8_000_000  # numbers held at once


class Klom(NamedTuple):
    """Values of one group of examples, in nats: mean, median, 95th percentile, and how many there are."""

    mean: float
    median: float
    percentile_95: float
    examples: int


@dataclass(frozen=True, eq=False)
class PermutedKlom:
    """KLoM beyond chance, shape [n] each.

    Attributes:
        excess: value minus the mean value after permutations, in nats; 0 in the mean for equal laws.
        p_value: chance of a value as high for equal laws; at least ``1 / (draws + 1)``.
    """

    excess: np.ndarray
    p_value: np.ndarray


def klom(
    unlearned: np.ndarray,
    oracle: np.ndarray,
    *,
    estimator: Literal["binned", "gauss"] = "binned",
    compat: bool = False,
    bins: int = 20,
) -> np.ndarray:
    """Return ``KL(oracle || unlearned)`` of each example's margins in nats, shape [n]; lower is better.

    Binned: both sides are cut off at +-100 and counted in equal bins from the joint smallest to the joint largest
    value; with shares p of oracles and q of unlearned models, ``sum p log(p / max(q, 1e-5))`` after q was
    brought to a sum of 1 again. Empty bins make it positive for equal laws: about 0.35 with 100 models a side,
    0.89 with 50. Gauss: ``log(s_u / s_o) + (s_o^2 + (m_o - m_u)^2) / (2 s_u^2) - 1 / 2``, about 0.02 and 0.04
    there; it sees means and variances only.

    Source: Rinberg et al., RoyRin/data-unlearning-bench, src/eval.py; the direction is that of its stored values.
    Differs: the last bin holds its upper edge.

    Args:
        unlearned: margins of the unlearned models, shape [N, n].
        oracle: of retrained models, shape [N', n]; as many, or the floor differs.
        estimator: "binned" or "gauss".
        compat: as published: bins are open above, which drops every value equal to the largest. NaN where
            that drops all oracles, or all unlearned models. Only with "binned".
        bins: number of bins.

    Raises:
        ShapeError: tables of different numbers of examples.
        InvalidInputError: fewer than 8 models on a side; numbers that are not finite; 0/1 correctness; with
            "gauss", an example whose margins have no variance.

    Example:
        >>> oracle = np.arange(30.0).reshape(10, 3)
        >>> klom(oracle, oracle), klom(oracle + [0, 9, 90], oracle).round(1)
        (array([0., 0., 0.]), array([0. , 2.8, 9.8]))
    """
    unlearned, oracle = _checked(unlearned, oracle, bins)
    if estimator not in ("binned", "gauss") or (compat and estimator != "binned"):
        raise InvalidInputError(
            f"`estimator` must be 'binned' or 'gauss', `compat` only binned; found {estimator!r}."
        )
    if estimator == "gauss":
        return _gauss(unlearned, oracle)
    index = _bins(np.concatenate([unlearned, oracle]), bins, closed=not compat)
    return _divergence(_counts(index[len(unlearned) :], bins), _counts(index[: len(unlearned)], bins))


def klom_permuted(
    unlearned: np.ndarray, oracle: np.ndarray, *, bins: int = 20, draws: int = 200, seed: int
) -> PermutedKlom:
    """Return binned KLoM beyond chance, with p-values: models change sides at random, in all examples alike.

    Arguments and errors as in `klom`; ``draws`` permutations follow ``seed``.
    """
    unlearned, oracle = _checked(unlearned, oracle, bins)
    if draws < 1:
        raise InvalidInputError(f"`draws` must be 1 or more, found {draws}.")
    random, count = np.random.default_rng(derive(seed, "permutations")), len(unlearned) + len(oracle)
    sides = random.permuted(np.tile(np.arange(count) < len(unlearned), (draws, 1)), axis=1)
    sides = np.concatenate([(np.arange(count) < len(unlearned))[None], sides])  # the true ones first
    step = max(1, _CHUNK // (8 * len(sides) * bins))
    found = []
    for start in range(0, unlearned.shape[1], step):
        part = slice(start, start + step)
        index = _bins(np.concatenate([unlearned[:, part], oracle[:, part]]), bins, closed=True)
        found.append(_divergence(_counts_of_sides(index, ~sides, bins), _counts_of_sides(index, sides, bins)))
    value, *_ = every = np.concatenate(found, axis=1)
    as_high = (every[1:] >= value - 1e-12).sum(0)
    return PermutedKlom(value - every[1:].mean(0), (1 + as_high) / (1 + draws))


def klom_floor(
    oracle: np.ndarray,
    *,
    models: int | None = None,
    estimator: Literal["binned", "gauss"] = "binned",
    compat: bool = False,
    bins: int = 20,
    seed: int,
) -> np.ndarray:
    """Return KLoM between two disjoint random sets of oracles, shape [n]: what a perfect method would read.

    It falls with the number of models, so it stands for a comparison of ``models`` against ``models`` only.

    Args:
        oracle: margins, shape [N, n].
        models: size of each set; half of the oracles unless given. A floor for N unlearned models against N
            oracles needs 2 N oracles.
        estimator: see `klom`.
        compat: see `klom`.
        bins: see `klom`.
        seed: of the sets.

    Raises:
        ShapeError: as `klom`.
        InvalidInputError: as `klom`; fewer than ``2 * models`` oracles.
    """
    oracle = as_margins(oracle, "oracle")
    size = len(oracle) // 2 if models is None else models
    if 2 * size > len(oracle):
        raise InvalidInputError(
            f"A floor of {size} against {size} models needs {2 * size} oracles, found {len(oracle)}. Retrain more, "
            "or compare fewer models."
        )
    order = np.random.default_rng(derive(seed, "floor")).permutation(len(oracle))
    first, second = oracle[order[:size]], oracle[order[size : 2 * size]]
    return klom(first, second, estimator=estimator, compat=compat, bins=bins)


def klom_summary(values: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, Klom]:
    """Return mean, median and 95th percentile of ``values``, shape [n], in each group, a mask or indices.

    Raises `InvalidInputError` for an empty group or values that are NaN.

    >>> klom_summary(np.array([0.0, 1.0, 5.0]), {"forget": np.array([True, True, False])})
    {'forget': Klom(mean=0.5, median=0.5, percentile_95=0.95, examples=2)}
    """
    found = {}
    for name, group in groups.items():
        part = np.asarray(values, dtype=np.float64)[group]
        if part.size == 0 or np.isnan(part).any():
            raise InvalidInputError(f"The group {name!r} needs at least one example and no NaN among its values.")
        found[name] = Klom(float(part.mean()), float(np.median(part)), float(np.quantile(part, 0.95)), part.size)
    return found


def _checked(unlearned: np.ndarray, oracle: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    unlearned, oracle = as_margins(unlearned, "unlearned"), as_margins(oracle, "oracle")
    same_examples(unlearned, oracle)
    if min(len(unlearned), len(oracle)) < ENOUGH_MODELS:
        raise InvalidInputError(
            f"KLoM needs {ENOUGH_MODELS} models or more on each side, found {len(unlearned)} unlearned and "
            f"{len(oracle)} oracles. Run more seeds."
        )
    if bins < 2:
        raise InvalidInputError(f"`bins` must be 2 or more, found {bins}.")
    return unlearned, oracle


def _gauss(unlearned: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    difference = oracle.mean(0) - unlearned.mean(0)
    variance_u, variance_o = unlearned.var(0, ddof=1), oracle.var(0, ddof=1)
    constant = np.flatnonzero((np.ptp(unlearned, axis=0) == 0) | (np.ptp(oracle, axis=0) == 0))
    if len(constant):
        raise InvalidInputError(
            f"The Gaussian estimate needs margins that differ between models; examples {constant[:5].tolist()} have "
            "one value only. Leave them out, or use the binned estimate."
        )
    ratio = variance_o / variance_u
    return np.asarray(0.5 * (ratio - 1 - np.log(ratio) + difference**2 / variance_u))


def _bins(margins: np.ndarray, bins: int, *, closed: bool) -> np.ndarray:
    """Return the bin of each margin, shape [models, n]; ``bins`` for those beyond the last edge."""
    values = np.clip(margins, -CLIP, CLIP)
    low, high = values.min(0), values.max(0)
    high = np.where(high > low, high, low + 1)
    edges = np.linspace(low, high, bins + 1)
    index = np.clip(np.floor((values - low) / (high - low) * bins), 0, bins).astype(np.int64)
    # Rounding may put a value next to an edge on its wrong side; the edges themselves decide.
    here, following = (np.take_along_axis(edges, np.minimum(index + k, bins), axis=0) for k in (0, 1))
    index += (values >= following) & (index < bins)
    index -= values < here
    return np.asarray(np.minimum(index, bins - 1) if closed else index)


def _counts(index: np.ndarray, bins: int) -> np.ndarray:
    """Return how many models fall into each bin, shape [bins, n], by one scatter-add for all examples."""
    examples = index.shape[1]
    flat = index * examples + np.arange(examples)
    return np.bincount(flat.ravel(), minlength=(bins + 1) * examples)[: bins * examples].reshape(bins, examples)


def _counts_of_sides(index: np.ndarray, sides: np.ndarray, bins: int) -> np.ndarray:
    """Return how many models of each of ``sides``, shape [draws, models], fall into each bin: [bins, draws, n]."""
    weights = sides.astype(np.float64)
    return np.stack([weights @ (index == k) for k in range(bins)])


def _divergence(oracle: np.ndarray, unlearned: np.ndarray) -> np.ndarray:
    """Return ``KL`` of counts along their first axis; NaN where a side has none."""
    with np.errstate(invalid="ignore"):  # 0 / 0 where all values were dropped
        p, q = oracle / oracle.sum(0), unlearned / unlearned.sum(0)
    q = np.where(p > 0, np.maximum(q, EPSILON), q)
    q /= q.sum(0)
    terms = p * np.log(np.where(p > 0, p / np.where(q > 0, q, 1.0), 1.0))
    return np.asarray(np.where(np.isnan(p).any(0) | np.isnan(q).any(0), np.nan, np.maximum(terms.sum(0), 0.0)))
