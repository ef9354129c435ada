"""Can one tell, from the model's answers, what was forgotten from what was never seen?

Tests of a whole set at once, with one rule for all examples: scores of single examples in, rates with their
intervals out. Nothing is fitted but the order of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.curves import check_counts, checked, roc
from amnesty.evaluation.features import FEATURES, features, margins
from amnesty.evaluation.intervals import Interval, auc_interval_of, clopper_pearson
from amnesty.evaluation.threshold_attack import matched
from amnesty.seeds import derive
from amnesty.tasks import Predictions

RATES = (0.1, 0.01, 0.001)
"""The false positive rates that `usable_rates` chooses from."""

NEEDED = 10  # non-members that a threshold must be allowed to call: with fewer it hangs on single examples


@dataclass(frozen=True)
class MembershipTest:
    """How well one feature tells forgotten from unseen examples; see `membership_test`.

    Attributes:
        feature: what the scores are.
        members: how many forgotten examples.
        nonmembers: how many unseen ones.
        auc: chance that a forgotten example scores above an unseen one, in [0, 1]. 0.5 is ideal, above: still
            remembered, below: over-forgotten.
        remembered: true positive rate of the attack that calls high scores members, by its false positive rate.
            As high as the false positive rate itself is ideal; above: still remembered.
        over_forgotten: the same of the attack that calls low scores members; above: over-forgotten.
        ks: Kolmogorov-Smirnov distance of the two laws, in [0, 1]; 0 is ideal. It sees differences that leave the
            AUC at 0.5, but is above 0 for samples of equal laws too, by about ``0.87 sqrt(1/n + 1/m)``.
        level: of confidence of all intervals.
    """

    feature: str
    members: int
    nonmembers: int
    auc: Interval
    remembered: Mapping[float, Interval]
    over_forgotten: Mapping[float, Interval]
    ks: float
    level: float


def usable_rates(count: int) -> tuple[float, ...]:
    """Return those of `RATES` at which ``count`` non-members can set a threshold: at least ``10 / rate`` of them.

    >>> usable_rates(2_500)
    (0.1, 0.01)
    """
    return tuple(rate for rate in RATES if count >= NEEDED / rate)


def membership_test(
    members: np.ndarray,
    nonmembers: np.ndarray,
    *,
    feature: str = "margin",
    rates: Sequence[float] = (0.01, 0.001),
    level: float = 0.95,
) -> MembershipTest:
    """Compare the scores of forgotten examples, shape [n], with those of unseen ones, shape [m]; one sort.

    At each false positive rate the threshold is the lowest that calls no larger share of the non-members; it comes
    from the non-members alone, so that the members that it calls are a binomial count and Clopper and Pearson's
    interval is exact, given that threshold. Any rising transform of the scores gives the same result.

    Source: Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022, section 3, for low
    false positive rates. Differs from a plain attack in that both directions are reported.

    Args:
        members: scores of the forgotten examples; higher: more like a member.
        nonmembers: scores of examples like these that were never trained on.
        feature: the name of the scores, for the record.
        rates: false positive rates, each above 0 and below 1.
        level: of confidence.

    Raises:
        InvalidInputError: a side is empty, not one-dimensional or holds NaN; a rate for which there are fewer than
            ``10 / rate`` non-members (see `usable_rates`); scores that are all equal, unless the feature is
            "correctness"; ``level`` not in (0, 1).

    >>> found = membership_test(np.arange(100.0), np.arange(-50.0, 50.0), rates=[0.1])
    >>> found.auc.value, found.remembered[0.1].value, found.over_forgotten[0.1].value
    (0.875, 0.6, 0.0)
    """
    members, nonmembers = checked(members, nonmembers)
    _check_rates(rates, len(nonmembers))
    curve = roc(members, nonmembers)
    if len(curve.thresholds) == 2 and feature != "correctness":
        raise InvalidInputError(
            f"All {len(members) + len(nonmembers)} scores ({feature}) equal {curve.thresholds[1]:g}: they say "
            "nothing of membership. Look for a model that answers the same to everything, or for rounded scores."
        )
    directions = curve, curve.reversed
    remembered, over_forgotten = (
        {rate: clopper_pearson(way.called_at(rate), curve.members, level) for rate in rates} for way in directions
    )
    area = auc_interval_of(curve, level)
    return MembershipTest(feature, curve.members, curve.nonmembers, area, remembered, over_forgotten, curve.ks, level)


def matched_features(
    forget: Predictions, unseen: Predictions, *, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return all features of the forgotten examples and of as many unseen ones as have the same class shares.

    Forgotten examples of a class without unseen ones are left out. A correctness that is the same for all is left
    out, since it says nothing.

    Args:
        forget: the model's answers on the forget set.
        unseen: its answers on examples that were never trained on.
        seed: of the choice among the unseen ones.

    Raises:
        ShapeError: the two have different numbers of classes (logits).
        InvalidInputError: no unseen example of a forgotten class; see also `amnesty.evaluation.features.features`.
    """
    if forget.logits.shape[1:] != unseen.logits.shape[1:]:
        raise ShapeError(
            "`forget` and `unseen` must be answers of one model, found logits of shapes "
            f"{list(forget.logits.shape)} and {list(unseen.logits.shape)}."
        )
    # In an order of the examples' own, so that the choice does not depend on that of the data.
    order = np.lexsort((margins(unseen.logits, unseen.labels), unseen.labels.numpy()))
    unseen = Predictions(unseen.logits[order], unseen.labels[order])
    labels, pool = forget.labels.numpy(), unseen.labels.numpy()
    asked = np.flatnonzero(np.isin(labels, pool))
    like = matched(labels, pool, np.random.default_rng(derive(seed, "membership auc")))
    check_counts(len(asked), len(like))
    sides = (features(p.logits[i], p.labels[i]) for p, i in ((forget, asked), (unseen, like)))
    members, nonmembers = sides
    if np.ptp(np.concatenate([members["correctness"], nonmembers["correctness"]])) == 0:
        del members["correctness"], nonmembers["correctness"]
    return members, nonmembers


def membership_tests(
    forget: Predictions,
    unseen: Predictions,
    *,
    seed: int,
    rates: Sequence[float] | None = None,
    level: float = 0.95,
) -> dict[str, MembershipTest]:
    """Run `membership_test` on each of `amnesty.evaluation.features.FEATURES`, forgotten against unseen examples.

    Correctness is absent where it is the same for all examples. Beware of reading the strongest of the results
    alone: that is what `strongest` is for.

    Args:
        forget: the model's answers on the forget set.
        unseen: its answers on examples that were never trained on; those with the class shares of ``forget`` are
            used, see `matched_features`.
        seed: of the choice among the unseen ones.
        rates: false positive rates; those of `usable_rates` if not given, none if there are too few non-members.
        level: of confidence.

    Raises:
        ShapeError, InvalidInputError: as `matched_features` and `membership_test`.
    """
    members, nonmembers = matched_features(forget, unseen, seed=seed)
    chosen = usable_rates(len(nonmembers["margin"])) if rates is None else rates
    return {
        name: membership_test(members[name], nonmembers[name], feature=name, rates=chosen, level=level)
        for name in FEATURES
        if name in members
    }


@dataclass(frozen=True)
class Strongest:
    """The best of several attacks, judged against the best of as many on shuffled labels; see `strongest`.

    Attributes:
        feature: the feature of the best attack.
        orientation: "remembered" if members score higher, "over-forgotten" if they score lower.
        auc: AUC of that attack in its direction, in [0.5, 1].
        p_value: chance of an AUC as high when membership means nothing, at least ``1 / (permutations + 1)``.
        null_95: 95th percentile of the best AUC when membership means nothing: what to compare ``auc`` with.
        permutations: how many shuffles the last two rest on.
    """

    feature: str
    orientation: str
    auc: float
    p_value: float
    null_95: float
    permutations: int


def strongest(
    members: Mapping[str, np.ndarray],
    nonmembers: Mapping[str, np.ndarray],
    *,
    seed: int,
    permutations: int = 1000,
) -> Strongest:
    """Find the feature and direction with the highest AUC, and how high chance alone would bring the highest.

    The maximum over attacks is above 0.5 even when none of them works. Its law is found by shuffling who is a member,
    for all features together, which keeps their dependence. Scores are ranked once for all shuffles.

    Args:
        members: scores of the forgotten examples by feature, shape [n] each, in one order of examples; such as the
            first result of `matched_features`.
        nonmembers: scores of the unseen ones, of the same features, shape [m] each.
        seed: of the shuffles.
        permutations: how many shuffles; at least 19, fewer cannot give a p-value of 0.05.

    Raises:
        InvalidInputError: no feature, other features or numbers of examples on one side, too few permutations, NaN.

    >>> members, nonmembers = {"margin": np.arange(10.0, 30.0)}, {"margin": np.arange(20.0)}
    >>> found = strongest(members, nonmembers, seed=0, permutations=99)
    >>> found.orientation, found.auc, found.p_value
    ('remembered', 0.875, 0.01)
    """
    ranks, n = _centred_ranks(members, nonmembers)
    if permutations < 19:
        raise InvalidInputError(f"`permutations` must be at least 19, found {permutations}.")
    pairs = n * (ranks.shape[1] - n)
    observed = ranks[:, :n].sum(axis=1) / pairs
    random = np.random.default_rng(derive(seed, "strongest attack"))
    null = np.concatenate(
        [np.abs(sums).max(axis=1) / pairs for sums in _shuffled_sums(ranks, n, permutations, random)]
    )
    best = int(np.argmax(np.abs(observed)))
    height = float(abs(observed[best]))
    reached = int((null >= height - 1e-12).sum())  # ties, which rounding must not break
    return Strongest(
        feature=list(members)[best],
        orientation="remembered" if observed[best] >= 0 else "over-forgotten",
        auc=0.5 + height,
        p_value=(1 + reached) / (1 + permutations),
        null_95=0.5 + float(np.quantile(null, 0.95)),
        permutations=permutations,
    )


def _centred_ranks(members: Mapping[str, np.ndarray], nonmembers: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """Return mid-ranks less their mean, shape [features, n + m], members first, and n."""
    from scipy.stats import rankdata

    if not members or set(members) != set(nonmembers):
        raise InvalidInputError(
            f"Both sides need the same features, at least one, found {sorted(members)} and {sorted(nonmembers)}."
        )
    pairs = [checked(members[name], nonmembers[name]) for name in members]
    if len({(len(a), len(b)) for a, b in pairs}) > 1:
        raise InvalidInputError("All features need scores of the same examples, found different numbers of them.")
    pooled = np.stack([np.concatenate(pair) for pair in pairs])
    return rankdata(pooled, axis=1) - (pooled.shape[1] + 1) / 2, len(pairs[0][0])


def _shuffled_sums(ranks: np.ndarray, n: int, permutations: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the sums of the ranks of n examples drawn at random, shape [some permutations, features]."""
    total = ranks.shape[1]
    rows = max(1, 2**22 // total)
    for start in range(0, permutations, rows):
        drawn = np.tile(np.arange(total) < n, (min(rows, permutations - start), 1))
        yield random.permuted(drawn, axis=1).astype(np.float64) @ ranks.T


def _check_rates(rates: Sequence[float], count: int) -> None:
    for rate in rates:
        if not 0 < rate < 1:
            raise InvalidInputError(f"A false positive rate must lie between 0 and 1, found {rate}.")
        if count < NEEDED / rate:
            raise InvalidInputError(
                f"A false positive rate of {rate:g} needs at least {NEEDED / rate:,.0f} non-members, so that ten of "
                f"them lie beyond the threshold, found {count:,}. Ask for one of usable_rates({count}): "
                f"{usable_rates(count)}."
            )
