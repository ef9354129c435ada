"""How well can attacks on single examples tell unlearned from retrained models? As an (epsilon, delta) number.

An attack on one example calls models with certain margins unlearned; FPR is the share of retrained models that
it calls so, FNR the share of unlearned ones that it misses. If unlearning were (epsilon, delta)-close to
retraining, every attack would satisfy ``epsilon >= log(1 - delta - FPR) - log FNR`` and the same with both
exchanged. Two estimates: the published score, and a lower bound that holds with a stated confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.evaluation.decision_rules import (
    ENDS,
    best_interval,
    best_threshold,
    by_examples,
    chosen_threshold,
    epsilon_of_rates,
    upper_bounds,
)
from amnesty.evaluation.tables import as_margins, same_examples
from amnesty.seeds import derive

ENOUGH_MODELS = 8
"""Models needed on each side; far more are needed for a number that says much (the challenge took 512)."""
CAP = 50.0
"""Epsilon of models that one attack tells apart without any error."""


@dataclass(frozen=True, eq=False)
class ForgettingQuality:
    """The challenge's forgetting quality; higher is better, but two equal laws do not reach 1.

    Attributes:
        value: mean over examples of `points`, in [0, 1].
        null: the same measure on two halves of the retrained models: what a perfect method would score.
        epsilons: per example, shape [n], in [0, 50].
    """

    value: float
    null: float
    epsilons: np.ndarray

    @property
    def ratio(self) -> float:
        """``value / null``, about 1 for a perfect method; NaN if the null itself is 0."""
        return self.value / self.null if self.null > 0 else float("nan")


def points(epsilons: np.ndarray, *, bins: int = 14) -> np.ndarray:
    """Return the points of each epsilon: 1 below 0.5, then half for each further 0.5; 0 from ``bins / 2`` on.

    >>> points(np.array([0.0, 0.49, 0.5, 1.4, 7.0]))
    array([1.  , 1.  , 0.5 , 0.25, 0.  ])
    """
    if bins < 1 or np.isnan(epsilons).any() or (np.asarray(epsilons) < 0).any():
        raise InvalidInputError("`points` needs epsilons of 0 or more and at least one bin.")
    step = np.floor(np.minimum(epsilons, CAP) / 0.5)
    return np.asarray(np.where(step < bins, 0.5**step, 0.0))


def epsilon_scores(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    delta: float = 1e-5,
    intervals: bool = False,
    by_median: bool = False,
) -> np.ndarray:
    """Return the published epsilon of each example, shape [n], in [0, 50]; lower is better, the null is no 0.

    The largest ``max(log(1 - delta - FPR) - log FNR, log(1 - delta - FNR) - log FPR)`` over attacks: every single
    threshold in both directions; with ``intervals`` also every interval between 64 pooled order statistics that
    is as wide as the smaller of the two ranges, give or take 2, with that side inside. FPR and FNR both 0 count as
    infinite, exactly one as no attack; a range below 1 % of the other is 50.

    Source: Triantafillou et al., Are we making progress in unlearning? arXiv:2406.09073, and its published code.
    Differs: every threshold between two margins in place of a grid of 100 a unit, order statistics in place of a
    grid of intervals.

    Args:
        unlearned: margins of the unlearned models, shape [N, n].
        retrained: of the retrained models, shape [N', n].
        delta: in [0, 1).
        intervals: also try intervals.
        by_median: of single thresholds only those with the side of the larger median above, as in the published
            code. Without intervals equal laws then score 0.31 with 20 models and 0.38 with 512, not 0.21 to 0.24.

    Raises:
        ShapeError: tables that do not match.
        InvalidInputError: fewer than 8 models on a side, numbers that are not finite, or 0/1 correctness. One
            retrained model with noise added is no law of retraining.
    """
    unlearned, retrained = _checked(unlearned, retrained, delta)
    models = len(unlearned) + len(retrained)
    threshold = partial(best_threshold, delta=delta, by_median=by_median)
    scores = by_examples(threshold, unlearned, retrained, 10 * models)
    if intervals:
        cells = ENDS * models + 10 * ENDS**2
        scores = np.maximum(scores, by_examples(partial(best_interval, delta=delta), unlearned, retrained, cells))
    ranges = np.ptp(unlearned, axis=0), np.ptp(retrained, axis=0)
    narrow = np.minimum(*ranges) < 0.01 * np.maximum(*ranges)
    return np.where(narrow, CAP, np.clip(scores, 0.0, CAP))


def forgetting_quality_compat(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    delta: float = 1e-5,
    bins: int = 14,
    intervals: bool = False,
    by_median: bool = False,
    seed: int,
) -> ForgettingQuality:
    """Return the forgetting quality of the NeurIPS 2023 unlearning challenge, for comparison with its tables only.

    The mean of ``points(epsilon_scores(...))``. It is not calibrated: two equal laws score 0.20 to 0.24 (0.18
    with intervals) for any number of models, since the best of many attacks is judged on the margins it was chosen
    on. Read it beside its null; `forgetting_quality` does not have this fault.

    Args:
        unlearned: margins, shape [N, n].
        retrained: margins, shape [N', n].
        delta: see `epsilon_scores`.
        bins: 14 in the published code, 13 in the published text.
        intervals: see `epsilon_scores`.
        by_median: see `epsilon_scores`.
        seed: of the halves for the null.

    Raises:
        ShapeError: as `epsilon_scores`.
        InvalidInputError: as `epsilon_scores`; fewer than 16 retrained models, whose halves are the null.
    """
    epsilons = epsilon_scores(unlearned, retrained, delta=delta, intervals=intervals, by_median=by_median)
    null = forgetting_quality_null(
        retrained, delta=delta, bins=bins, intervals=intervals, by_median=by_median, seed=seed
    )
    return ForgettingQuality(float(points(epsilons, bins=bins).mean()), null, epsilons)


def forgetting_quality_null(
    retrained: np.ndarray,
    *,
    delta: float = 1e-5,
    bins: int = 14,
    intervals: bool = False,
    by_median: bool = False,
    seed: int,
) -> float:
    """Return the published forgetting quality of one half of the retrained models against the other."""
    first, second = _halves(as_margins(retrained, "retrained"), seed, "null")
    epsilons = epsilon_scores(first, second, delta=delta, intervals=intervals, by_median=by_median)
    return float(points(epsilons, bins=bins).mean())


def epsilon_lower(
    unlearned: np.ndarray, retrained: np.ndarray, *, alpha: float = 0.05, delta: float = 1e-5, seed: int
) -> np.ndarray:
    """Return a lower bound of each example's epsilon, shape [n]; 0 where nothing can be shown, lower is better.

    A random half of the models of each side chooses threshold and orientation, by rates ``(k + 1) / (N + 2)``. On
    the other half FPR and FNR are replaced by their Clopper-Pearson upper bounds, each at ``alpha / 2``: with
    confidence ``1 - alpha``, for each single example, the true epsilon is no smaller. For a statement on all
    examples at once divide ``alpha`` by their number. Equal laws read 0.

    The models must be independent draws: also the originals that were unlearned, not one original N times.

    Args:
        unlearned: margins, shape [N, n].
        retrained: margins, shape [N', n].
        alpha: chance of an example's bound to be wrong.
        delta: in [0, 1).
        seed: of the halves.

    Raises:
        ShapeError: as `epsilon_scores`.
        InvalidInputError: as `epsilon_scores`; ``alpha`` outside of (0, 1).

    Example:
        >>> random = np.random.default_rng(0)
        >>> retrained, unlearned = random.normal(size=(2, 128, 3))
        >>> epsilon_lower(unlearned, retrained, seed=0)
        array([0., 0., 0.])
        >>> epsilon_lower(unlearned + [0, 2, 9], retrained, seed=0).round(1)
        array([0. , 1.1, 2.8])
    """
    unlearned, retrained = _checked(unlearned, retrained, delta)
    if not 0 < alpha < 1:
        raise InvalidInputError(f"`alpha` must lie between 0 and 1, found {alpha}.")
    first, second = zip(_halves(unlearned, seed, "unlearned"), _halves(retrained, seed, "retrained"), strict=True)
    threshold, above = chosen_threshold(*first, delta)
    called = [np.where(above, side > threshold, side <= threshold).sum(0) for side in second]  # called unlearned
    false_positive = upper_bounds(called[1], len(second[1]), alpha / 2)
    false_negative = upper_bounds(len(second[0]) - called[0], len(second[0]), alpha / 2)
    return np.asarray(np.maximum(epsilon_of_rates(false_positive, false_negative, delta), 0.0))


def forgetting_quality(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    alpha: float = 0.05,
    delta: float = 1e-5,
    bins: int = 14,
    seed: int,
) -> float:
    """Return the mean `points` of `epsilon_lower`, in [0, 1]: equal laws score 1.

    High values show little with few models, whose bounds are weak: a shift of two deviations scores 0.55 with 64
    models a side and 0.07 with 512. Arguments and errors as in `epsilon_lower`.
    """
    bounds = epsilon_lower(unlearned, retrained, alpha=alpha, delta=delta, seed=seed)
    return float(points(bounds, bins=bins).mean())


def challenge_score(
    quality: float, retain: np.ndarray, retain_reference: np.ndarray, test: np.ndarray, test_reference: np.ndarray
) -> float:
    """Return the challenge's final score, ``quality * (RA / RA_retrained) * (TA / TA_retrained)``; higher is better.

    Args:
        quality: forgetting quality.
        retain: accuracies on the retained examples of the unlearned models, fractions, a number or shape [N].
        retain_reference: of the retrained models.
        test: likewise on test examples.
        test_reference: of the retrained models.

    Raises:
        InvalidInputError: a number outside of [0, 1], or a reference of 0.

    Example:
        >>> challenge_score(0.2, 0.9, 1.0, np.array([0.6, 0.8]), 0.7)
        0.18000000000000002
    """
    given = {"retain": retain, "retain_reference": retain_reference, "test": test, "test_reference": test_reference}
    for name, value in {"quality": quality, **given}.items():
        numbers = np.asarray(value, dtype=np.float64)
        if numbers.size == 0 or not ((numbers >= 0) & (numbers <= 1)).all():
            raise InvalidInputError(f"`{name}` must be fractions from 0 to 1, found {value}.")
    kept, kept_reference, unseen, unseen_reference = (float(np.mean(value)) for value in given.values())
    if kept_reference == 0 or unseen_reference == 0:
        raise InvalidInputError("The accuracies of the retrained models must be above 0; they divide.")
    return float(quality * (kept / kept_reference) * (unseen / unseen_reference))


def _checked(unlearned: np.ndarray, retrained: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    unlearned, retrained = as_margins(unlearned, "unlearned"), as_margins(retrained, "retrained")
    same_examples(unlearned, retrained)
    for name, table in (("unlearned", unlearned), ("retrained", retrained)):
        if len(table) < ENOUGH_MODELS:
            raise InvalidInputError(
                f"`{name}` must hold {ENOUGH_MODELS} models or more, each trained with its own seed, to show the "
                f"law of an example; found {len(table)}. Noise added to one model is no substitute."
            )
    if not 0 <= delta < 1:
        raise InvalidInputError(f"`delta` must lie in [0, 1), found {delta}.")
    return unlearned, retrained


def _halves(table: np.ndarray, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(derive(seed, "halves", name)).permutation(len(table))
    return table[order[: len(order) // 2]], table[order[len(order) // 2 :]]
