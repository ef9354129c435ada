"""Methods under per-example tests: what a pool of shadow models says of each, and which are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amnesty.evaluation import Ranking, auc, rank
from amnesty.evaluation.epsilon import forgetting_quality
from amnesty.evaluation.klom import klom, klom_floor
from amnesty.evaluation.likelihood import Likelihoods, lira, membership_auc, unlearned_lira
from amnesty.evaluation.pooled import PooledAuc
from amnesty.methods import Method
from amnesty.studies.shadows import ShadowAnswers, ShadowPool, Trained

KEPT = 200
"""Retained examples that the test of what was kept looks at, at most."""

RATE = 0.01


class Law(NamedTuple):
    """Margins of targets over models, nats: mean, and deviation from model to model, both averaged over targets."""

    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class PerExample:
    """What per-example tests say of one row: a method, the originals ("identity") or the retrained twins.

    Attributes:
        lira: AUC of an attacker with shadow originals, on targets that the model's original learnt against those
            that it did not; 0.5 is ideal.
        never: AUC of U-LiRA, forgotten against never met; 0.5 is ideal. Never below in expectation: an example that
            is treated worse than one never met is told as well.
        retrained: AUC of U-LiRA, forgotten against left out by the retrained twin.
        null: what ``never`` reads where there is nothing to find, at these sizes.
        accuracy: balanced accuracy of U-LiRA's rule, against never met.
        tpr: share of the forgotten found at a false positive rate of `RATE`, against never met; NaN with fewer than
            ``10 / RATE`` scores of models that never met a target.
        exposed: share of the targets with an AUC of their own above the 95th percentile of the null's; 0.05 is
            ideal.
        kept: AUC of U-LiRA on retained examples, against the retrained twin; above 0.5 unlearning changed them.
        klom: 95th percentile over targets of KLoM, in nats. klom_floor: the same of two sets of retrained twins.
        quality: forgetting quality with lower bounds, in [0, 1]; 1 where nothing can be shown.
        forgotten, never_met, twin: margins of targets where they were forgotten, never met, and left out by the twin;
            see `Law`.
        by_pair: AUC against the retrained twins within each pair of shadows, shape [M / 2]: what rows are ranked by.
        forget_accuracy, retain_accuracy: mean over the models.
        unseen_accuracy: on further examples; NaN without them.
        seconds: median of a model's training or unlearning.
    """

    lira: PooledAuc
    never: PooledAuc
    retrained: PooledAuc
    null: float
    accuracy: float
    tpr: float
    exposed: float
    kept: PooledAuc
    klom: float
    klom_floor: float
    quality: float
    forgotten: Law
    never_met: Law
    twin: Law
    by_pair: np.ndarray
    forget_accuracy: float
    retain_accuracy: float
    unseen_accuracy: float
    seconds: float


def per_example(pool: ShadowPool, of: Trained | Method, *, seed: int = 0) -> PerExample:
    """Run the per-example tests on one row of a pool; models that are missing are computed.

    Raises:
        InvalidInputError: too few shadows for the tests; 32 or more are sensible.
        DataError, ShadowError: see `ShadowPool.answers`.
    """
    found, twins, originals = pool.answers(of), pool.answers("retrained"), pool.answers("original")
    targets, groups = pool.design.targets, pool.groups
    own, theirs = found.margins[:, targets], twins.margins[:, targets]
    forgotten, never = pool.forgotten[:, targets], ~pool.trained[:, targets]
    against_never = unlearned_lira(own, forgotten, own, never, groups=groups, other_groups=groups, seed=seed)
    scores = lira(
        own,
        originals.margins[:, targets],
        pool.trained[:, targets],
        attacked_groups=groups,
        shadow_groups=groups,
    )
    against_twins = _against_twins(own, theirs, forgotten, groups, seed)
    floor = klom_floor(theirs, models=len(groups) // 2, estimator="gauss", seed=seed)
    left = _gathered(own, forgotten), _gathered(theirs, forgotten)
    return PerExample(
        lira=membership_auc(scores, forgotten, groups, nonmember=never, seed=seed),
        never=against_never.auc(),
        retrained=_auc(against_twins, forgotten, groups),
        null=against_never.null.auc().value if against_never.null is not None else 0.5,
        accuracy=against_never.balanced_accuracy,
        tpr=_rate(against_never),
        exposed=_exposed(against_never),
        kept=_kept(pool, found, twins, seed),
        klom=float(np.quantile(klom(*left, estimator="gauss"), 0.95)),
        klom_floor=float(np.quantile(floor, 0.95)),
        quality=forgetting_quality(*left, seed=seed),
        forgotten=_law(own, forgotten),
        never_met=_law(own, never),
        twin=_law(theirs, forgotten),
        by_pair=_by_pair(against_twins, groups),
        **_accuracies(pool, found),
        seconds=float(np.median(found.seconds)),
    )


def rank_rows(rows: Mapping[str, PerExample], *, seed: int = 0) -> Ranking:
    """Rank rows by the AUC of U-LiRA against the retrained twins, lower is better, paired over pairs of shadows.

    Not by that against never met: of a destroyed model nothing can be told, so that it would rank first. The pairs
    are of one data set and one set of targets: the ranking is a claim about these.

    Raises:
        InvalidInputError: fewer than two rows.
    """
    return rank({name: row.by_pair for name, row in rows.items()}, seed=seed)


def _against_twins(
    own: np.ndarray, theirs: np.ndarray, mask: np.ndarray, groups: np.ndarray, seed: int
) -> Likelihoods | None:
    """Tell models from retrained twins; ``None`` where they are the twins, which nothing tells apart."""
    if np.array_equal(own, theirs):
        return None
    return unlearned_lira(own, mask, theirs, mask, groups=groups, other_groups=groups, seed=seed)


def _auc(found: Likelihoods | None, mask: np.ndarray, groups: np.ndarray) -> PooledAuc:
    if found is not None:
        return found.auc()
    count = int(mask.sum())
    return PooledAuc(0.5, 0.5, 0.5, 0.95, len(np.unique(groups)), count, count)


def _kept(pool: ShadowPool, found: ShadowAnswers, twins: ShadowAnswers, seed: int) -> PooledAuc:
    others = np.setdiff1d(np.arange(pool.trained.shape[1]), pool.design.targets)
    chosen = others[:: max(1, -(-len(others) // KEPT))]
    retained = pool.design.retained[:, chosen]
    against = _against_twins(found.margins[:, chosen], twins.margins[:, chosen], retained, pool.groups, seed)
    return _auc(against, retained, pool.groups)


def _law(values: np.ndarray, mask: np.ndarray) -> Law:
    found = np.where(mask, values.astype(np.float64), np.nan)
    return Law(float(np.nanmean(found, axis=0).mean()), float(np.nanstd(found, axis=0).mean()))


def _rate(found: Likelihoods) -> float:
    enough = (~np.isnan(found.outside)).sum() * RATE >= 10
    return found.true_positive_rate(RATE) if enough else float("nan")


def _exposed(found: Likelihoods) -> float:
    if found.null is None:
        return float("nan")
    return float((found.per_point() > np.quantile(found.null.per_point(), 0.95)).mean())


def _by_pair(found: Likelihoods | None, groups: np.ndarray) -> np.ndarray:
    """Return the AUC over targets within each pair: its scores come from one fit, which holds neither of the two."""
    if found is None:
        return np.full(len(np.unique(groups)), 0.5)
    values = []
    for code in np.unique(found.groups):
        inside, outside = found.inside[found.groups == code], found.outside[found.other_groups == code]
        values.append(auc(inside[~np.isnan(inside)], outside[~np.isnan(outside)]))
    return np.array(values)


def _gathered(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the values where ``mask`` is True, shape [count, n]; as many are in each column."""
    rows = np.argsort(~mask, axis=0, kind="stable")[: int(mask.sum(axis=0).min())]
    return np.take_along_axis(values, rows, axis=0)


def _accuracies(pool: ShadowPool, found: ShadowAnswers) -> dict[str, float]:
    size = pool.trained.shape[1]
    right = found.correct[:, :size]
    unseen = found.correct[:, size:]
    return {
        "forget_accuracy": float(right[pool.forgotten].mean()),
        "retain_accuracy": float(right[pool.design.retained].mean()),
        "unseen_accuracy": float(unseen.mean()) if unseen.size else float("nan"),
    }
