"""Methods under per-example tests: what a pool of shadow models says of each, and which are told apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.evaluation import Ranking, auc
from amnesty.evaluation.epsilon import forgetting_quality
from amnesty.evaluation.klom import klom, klom_floor
from amnesty.evaluation.likelihood import Likelihoods, lira, membership_auc, unlearned_lira
from amnesty.evaluation.pairs import checked_level, one_per_seed, paired_differences
from amnesty.evaluation.pooled import PooledAuc
from amnesty.evaluation.ranking import holm, nemenyi, tied
from amnesty.methods import Method
from amnesty.studies.shadows import ShadowAnswers, ShadowPool, Trained

KEPT = 200
"""Retained examples that the test of what was kept looks at, at most."""

RATE = 0.01

WIDER = 1.6
"""How much wider a mean over pairs of shadows spreads than pairs that were independent would have it.

The AUC of a pair is taken with fits to all other pairs. Where there is nothing to find it is a sum over pairs of
pairs, each of which counts twice, and the root of 2 follows; with a faint signal simulations show up to 1.6, with one
of a deviation 1.0 to 1.3.
"""


class Law(NamedTuple):
    """Margins of targets over models, nats: mean, and deviation from model to model, both averaged over targets."""

    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class PerExample:
    """What per-example tests say of one row: a method, the originals ("identity") or the retrained twins.

    ``retrained``, ``kept``, ``klom``, ``quality`` and ``by_pair`` compare with the retrained twins; they are ``None``
    on the row of the twins themselves.

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
        by_pair: AUC against the retrained twins within each pair of shadows, shape [M / 2], see `within_pairs`: what
            rows are ranked by.
        forget_accuracy, retain_accuracy: mean over the models.
        unseen_accuracy: on further examples; NaN without them.
        seconds: median of a model's training or unlearning.
    """

    lira: PooledAuc
    never: PooledAuc
    retrained: PooledAuc | None
    null: float
    accuracy: float
    tpr: float
    exposed: float
    kept: PooledAuc | None
    klom: float | None
    klom_floor: float
    quality: float | None
    forgotten: Law
    never_met: Law
    twin: Law
    by_pair: np.ndarray | None
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
    measured = against_twins is not None
    return PerExample(
        lira=membership_auc(scores, forgotten, groups, nonmember=never, seed=seed),
        never=against_never.auc(),
        retrained=against_twins.auc() if against_twins is not None else None,
        null=against_never.null.auc().value if against_never.null is not None else 0.5,
        accuracy=against_never.balanced_accuracy,
        tpr=_rate(against_never),
        exposed=_exposed(against_never),
        kept=_kept(pool, found, twins, seed),
        klom=float(np.quantile(klom(*left, estimator="gauss"), 0.95)) if measured else None,
        klom_floor=float(np.quantile(floor, 0.95)),
        quality=forgetting_quality(*left, seed=seed) if measured else None,
        forgotten=_law(own, forgotten),
        never_met=_law(own, never),
        twin=_law(theirs, forgotten),
        by_pair=within_pairs(against_twins) if against_twins is not None else None,
        **_accuracies(pool, found),
        seconds=float(np.median(found.seconds)),
    )


@dataclass(frozen=True)
class RowRanking(Ranking):
    """A `Ranking` whose blocks are pairs of shadows; see `rank_rows` for its tests and intervals."""

    @property
    def statement(self) -> str:
        """What may be claimed, in one sentence, and on how many pairs of shadows the claim rests."""
        ties = "; ".join(" = ".join(group) for group in self.groups)
        order = ", ".join(f"{name} {value:.3g}" for name, value in self.mean_ranks.items())
        return (
            f"On {self.blocks} pairs of shadow models at level {self.level:g}, methods that are not separated: "
            f"{ties} (mean ranks: {order}; p of no difference at all {self.p_value:.2g})."
        )


def rank_rows(rows: Mapping[str, PerExample], *, level: float = 0.95) -> RowRanking:
    """Rank rows by the AUC of U-LiRA against the retrained twins, lower is better, paired over pairs of shadows.

    Not by that against never met: of a destroyed model nothing can be told, so that it would rank first. The pairs
    are of one data set and one set of targets: the ranking is a claim about these.

    Pairs of shadows are no independent blocks, since the fits behind their scores share nearly all models. Two rows
    are compared by ``t = mean / (WIDER s / sqrt(P))`` of the differences of their AUC in P pairs, with P - 1 degrees
    of freedom, corrected after Holm; the same factor widens the intervals, ``mean ± WIDER t s / sqrt(P)`` of a row's
    ranks, and the critical difference. The p of no difference at all is the smallest corrected one.

    Measured by simulation, 60 examples and 16, 32 and 64 models: of two exact retrainings, at a nominal 0.05, in
    0.043, 0.036 and 0.030 of 3,000 studies each; with independent blocks assumed 0.15 to 0.17. Equal signals, and
    unlike ones of equal AUC, up to one deviation: 0.00 to 0.07, 0.03 in the mean. Any two of ten exact retrainings:
    0.01 to 0.04. Intervals of the mean ranks of ten equal rows: 0.94 to 0.97 hold the truth. A row that has the same
    rank in every pair has an interval of no width.

    Raises:
        InvalidInputError: fewer than two rows, the row of the retrained twins, or rows of different pools.
    """
    from scipy.stats import rankdata

    level, values = checked_level(level), _values(rows)
    ranks = rankdata(list(values.values()), axis=0)  # [rows, pairs]
    order = np.argsort(ranks.mean(axis=1), kind="stable")
    names, ranks = [list(values)[i] for i in order], ranks[order]
    pairs = list(itertools.combinations(names, 2))
    raw = [_p_value(paired_differences(pair, values[pair[0]], values[pair[1]])) for pair in pairs]
    pairwise = dict(zip(pairs, holm(raw).tolist(), strict=True))
    return RowRanking(
        dict(zip(names, ranks.mean(axis=1).tolist(), strict=True)),
        dict(zip(names, _intervals(ranks, level), strict=True)),
        min(pairwise.values()),
        pairwise,
        WIDER * nemenyi(len(names), ranks.shape[1], level=level),
        tied(names, {pair for pair, p_value in pairwise.items() if p_value <= 1 - level}),
        ranks.shape[1],
        level,
    )


def within_pairs(found: Likelihoods) -> np.ndarray:
    """Return the AUC over targets within each pair, shape [M / 2]: its scores come from one fit, which holds neither.

    The values are no independent draws: what one pair is scored by, all others were fitted with. See `rank_rows`.
    """
    values = []
    for code in np.unique(found.groups):
        inside, outside = found.inside[found.groups == code], found.outside[found.other_groups == code]
        values.append(auc(inside[~np.isnan(inside)], outside[~np.isnan(outside)]))
    return np.array(values)


def _values(rows: Mapping[str, PerExample]) -> dict[str, np.ndarray]:
    """Return the AUC of each row in each pair."""
    if len(rows) < 2:
        raise InvalidInputError(f"A ranking needs at least two rows, found {list(rows)}.")
    unmeasured = [name for name, row in rows.items() if row.by_pair is None]
    if unmeasured:
        raise InvalidInputError(
            f"Rows are ranked against the retrained twins, but these are the twins themselves: {unmeasured}. Leave "
            "them out."
        )
    values = {name: one_per_seed(name, row.by_pair) for name, row in rows.items() if row.by_pair is not None}
    counts = {name: len(row) for name, row in values.items()}
    if len(set(counts.values())) > 1 or min(counts.values()) < 2:
        raise InvalidInputError(f"All rows must be of one pool, of at least two pairs of shadows, but have {counts}.")
    return values


def _p_value(differences: np.ndarray) -> float:
    """Return the two-sided p that the differences are centred on 0."""
    from scipy.stats import t

    mean, error = differences.mean(), WIDER * differences.std(ddof=1) / math.sqrt(len(differences))
    if error == 0:
        return float(mean == 0)
    return float(2 * t.sf(abs(mean) / error, len(differences) - 1))


def _intervals(ranks: np.ndarray, level: float) -> list[tuple[float, float]]:
    from scipy.stats import t

    rows, pairs = ranks.shape
    mean, wide = ranks.mean(axis=1), WIDER * t.ppf((1 + level) / 2, pairs - 1) / math.sqrt(pairs)
    half = wide * ranks.std(axis=1, ddof=1)
    return list(zip(np.maximum(mean - half, 1.0).tolist(), np.minimum(mean + half, rows).tolist(), strict=True))


def _against_twins(
    own: np.ndarray, theirs: np.ndarray, mask: np.ndarray, groups: np.ndarray, seed: int
) -> Likelihoods | None:
    """Tell models from retrained twins; ``None`` where they are the twins, which nothing tells apart."""
    if np.array_equal(own, theirs):
        return None
    return unlearned_lira(own, mask, theirs, mask, groups=groups, other_groups=groups, seed=seed)


def _kept(pool: ShadowPool, found: ShadowAnswers, twins: ShadowAnswers, seed: int) -> PooledAuc | None:
    others = np.setdiff1d(np.arange(pool.trained.shape[1]), pool.design.targets)
    chosen = others[:: max(1, -(-len(others) // KEPT))]
    retained = pool.design.retained[:, chosen]
    against = _against_twins(found.margins[:, chosen], twins.margins[:, chosen], retained, pool.groups, seed)
    return against.auc() if against is not None else None


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
