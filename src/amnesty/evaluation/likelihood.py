"""Was this example trained on? Was it trained on and then forgotten? One likelihood ratio per example and model.

Each example has laws of its own: that of its margin (log-odds, see `amnesty.evaluation.margins`) under models
that met it and that under models that did not, learnt from shadow models. Fits never hold the scored model: its
whole *group* is left out, the two models that were trained on complementary halves. Fitting and scoring the same
models would tell two equal laws apart (accuracy 0.58 with 16 models a side); left out, they read 0.50.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.evaluation.fits import equal_numbers, leave_group_out, log_kernels, log_normal, with_floor
from amnesty.evaluation.pooled import PooledAuc, pooled_auc
from amnesty.evaluation.tables import all_finite, as_groups, as_margins, as_mask, as_scores, same_examples
from amnesty.seeds import derive


class PointSummary(NamedTuple):
    """The distribution over examples of an AUC per example: mean, 95th percentile, share above 0.6."""

    mean: float
    percentile_95: float
    share_above: float


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Cross-fitted log-likelihood ratios of forgotten against never seen; see `unlearned_lira`.

    Above 0 the margin looks like one of a model that met the example and forgot it.

    Attributes:
        inside: scores of models that forgot the example, shape [M, n]; NaN where they did not.
        outside: scores of models that never met it, shape [M', n]; NaN elsewhere.
        groups: the group of each row of ``inside``.
        other_groups: the group of each row of ``outside``.
        seed: of the bootstrap.
        null: the same after the two sides changed places in half of the groups of each example, at random: what
            every measure reads at these sizes where there is nothing to find. ``None`` on a null itself.
    """

    inside: np.ndarray
    outside: np.ndarray
    groups: np.ndarray
    other_groups: np.ndarray
    seed: int
    null: Likelihoods | None = field(default=None, repr=False)

    def auc(self, *, level: float = 0.95, draws: int = 1000) -> PooledAuc:
        """Return the pooled AUC with its interval over groups; 0.5 is ideal. See `pooled_auc`."""
        return pooled_auc(
            self.inside, self.outside, self.groups, self.other_groups, level=level, draws=draws, seed=self.seed
        )

    @property
    def balanced_accuracy(self) -> float:
        """Mean of both sides' shares that the rule "forgotten if the score is above 0" calls right; 0.5 is ideal."""
        inside, outside = _present(self.inside), _present(self.outside)
        right = np.sign(inside).mean() - np.sign(outside).mean()  # a score of exactly 0 is half right
        return float(0.5 + right / 4)

    def true_positive_rate(self, at: float) -> float:
        """Return the largest share called right inside, of all thresholds with at most ``at`` wrong outside.

        The ideal value is ``at``. Raises `InvalidInputError` with fewer than ``10 / at`` scores outside: the
        threshold would hang on less than ten of them.
        """
        if not 0 < at < 1:
            raise InvalidInputError(f"`at` must lie between 0 and 1, found {at}.")
        outside = np.sort(_present(self.outside))
        if len(outside) * at < 10 * (1 - 1e-9):
            raise InvalidInputError(
                f"A false positive rate of {at} needs {math.ceil(10 / at - 1e-9)} scores outside, found "
                f"{len(outside)}. Ask for a larger rate, or give more models or examples."
            )
        threshold = outside[-1 - math.floor(at * len(outside) + 1e-9)]
        return float((_present(self.inside) > threshold).mean())

    def per_point(self) -> np.ndarray:
        """Return an AUC for each example, shape [n]; 0.5 is ideal in the mean.

        It compares scores inside and outside of the same group only, since they come from the same fit. Scores of
        different groups do not: each holds the other in its fit, and their AUC is 0.44 in the mean where there is
        nothing to find. With one pair a group and G groups its standard deviation there is about
        ``0.68 / sqrt(G)``, so compare percentiles and shares with those of `null`, never with 0.5.
        """
        codes = np.unique(np.concatenate([self.groups, self.other_groups]))
        wins, pairs = (np.zeros(self.inside.shape[1]) for _ in range(2))
        for code in codes:
            first, second = self.inside[self.groups == code], self.outside[self.other_groups == code]
            for row in first:
                wins += (row > second).sum(0) + (row == second).sum(0) / 2
                pairs += ~np.isnan(row) * (~np.isnan(second)).sum(0)
        return np.asarray(wins / pairs)

    def summary(self) -> PointSummary:
        """Return mean, 95th percentile and share above 0.6 of `per_point`; compare with ``null.summary()``."""
        values = self.per_point()
        return PointSummary(float(values.mean()), float(np.quantile(values, 0.95)), float((values > 0.6).mean()))


def lira(
    attacked: np.ndarray,
    shadows: np.ndarray,
    trained: np.ndarray,
    *,
    attacked_groups: np.ndarray,
    shadow_groups: np.ndarray,
    online: bool = True,
    shrink: float = 8.0,
    location: Literal["mean", "median"] = "mean",
) -> np.ndarray:
    r"""Score how much more each margin looks like one of a model that was trained on the example; shape [K, n].

    Online: ``log N(phi; mu_in, v_in) - log N(phi; mu_out, v_out)``. Offline, from models that never met the
    example: ``-log(1 - Phi((phi - mu_out) / sqrt(v_out)))``. Higher means more like a member. The variance of
    each example is drawn towards the pooled one, ``(shrink V + (m - 1) s^2) / (shrink + m - 1)`` with m models,
    which matters below about 64 of them. A model is attacked with shadows of other groups only.

    Source: Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022, section VI. Differs:
    offline scores are the same ranking on a logarithmic scale, since Phi itself is 1 beyond 8.3 deviations and
    ties the surest members (``1 - exp(-score)`` gives it); variances are shrunk; groups are left out.

    Args:
        attacked: margins of the models under attack, shape [K, n].
        shadows: margins of the shadow models, shape [M, n].
        trained: whether the shadow was trained on the example, bool, shape [M, n].
        attacked_groups: whole numbers, shape [K]. Shadow models that share data choices, such as a pair trained on
            complementary halves, share a group; an attacked model that is none of the shadows has its own.
        shadow_groups: likewise, shape [M].
        online: use both sides; otherwise only models that never met the example.
        shrink: weight of the pooled variance, in models; 0 for none.
        location: "mean", or "median" as in the authors' code.

    Raises:
        ShapeError: tables that do not match.
        InvalidInputError: numbers that are not finite; 0/1 correctness in place of margins; an example with fewer
            than two shadow models on a needed side when a group is left out.
    """
    attacked, shadows = as_margins(attacked, "attacked"), as_margins(shadows, "shadows")
    trained = as_mask(trained, shadows.shape, "trained")
    same_examples(attacked, shadows)
    if not shrink >= 0 or location not in ("mean", "median"):
        raise InvalidInputError(
            f"`shrink` must be 0 or more and `location` 'mean' or 'median', found {shrink} and {location!r}."
        )
    asked, which = np.unique(as_groups(attacked_groups, len(attacked), "attacked_groups"), return_inverse=True)
    codes = as_groups(shadow_groups, len(shadows), "shadow_groups")
    sides = [leave_group_out(shadows, ~trained, codes, asked, shrink, "never saw it", location)]
    if online:
        sides.append(leave_group_out(shadows, trained, codes, asked, shrink, "were trained on it", location))
    never, *met = with_floor(sides)
    if met:
        return np.asarray(log_normal(attacked, met[0], which) - log_normal(attacked, never, which))
    from scipy.special import log_ndtr

    return np.asarray(-log_ndtr((never.mean[which] - attacked) / np.sqrt(never.variance[which])))


def unlearned_lira(
    unlearned: np.ndarray,
    forgotten: np.ndarray,
    other: np.ndarray,
    never: np.ndarray,
    *,
    groups: np.ndarray,
    other_groups: np.ndarray,
    density: Literal["gauss", "kde"] = "gauss",
    shrink: float = 8.0,
    seed: int,
) -> Likelihoods:
    """Tell models that met an example and forgot it from models that did not, one example at a time (U-LiRA).

    The score of a model is ``log p_in(phi) - log p_out(phi)``, with densities fitted to all groups but its own.
    Two questions, by what stands outside:

    - *never*: ``other`` are the same unlearned models, ``never`` the examples outside their training sets. Can
      an adversary tell from a released model that the example was once in it?
    - *retrained*: ``other`` are models retrained without the forget set, ``never`` the examples that were in it.
      Can unlearning be told from retraining?

    Both sides count equally: within a group and example as many values are kept as the smaller side has, drawn
    at random, so that ten models unlearned from one original count as one. A group without both sides at an
    example says nothing there and is left out. Retraining as the method must read 0.5.

    Source: Hayes et al., Inexact Unlearning Needs More Careful Evaluations, SaTML 2025, arXiv:2403.01218; kernel
    densities as in Naderloui et al., RULI, USENIX Security 2025. Differs: fitted and scored models are apart,
    both sides are scored, densities are compared by the difference of their logarithms.

    Args:
        unlearned: margins, shape [M, n].
        forgotten: whether that model was trained on the example and forgot it, bool, shape [M, n].
        other: margins, shape [M', n].
        never: whether that model stands for "never met it", bool, shape [M', n].
        groups: the complement pair of each model, whole numbers, shape [M].
        other_groups: likewise, shape [M'], with the same numbers for the same pairs.
        density: "gauss", or "kde" for Gaussian kernels of Silverman's bandwidth, ``sd (4 / 3m)^(1/5)``.
        shrink: weight of the pooled variance, in models; see `lira`.
        seed: of the draws of equal numbers, of the null and of the bootstrap.

    Raises:
        ShapeError: tables that do not match.
        InvalidInputError: as in `lira`; fewer than three groups with both sides at an example; an example that
            one model has both forgotten and never met.
    """
    unlearned, other = as_margins(unlearned, "unlearned"), as_margins(other, "other")
    forgotten, never = as_mask(forgotten, unlearned.shape, "forgotten"), as_mask(never, other.shape, "never")
    same_examples(unlearned, other)
    if density not in ("gauss", "kde") or not shrink >= 0:
        raise InvalidInputError(
            f"`density` must be 'gauss' or 'kde' and `shrink` 0 or more, found {density!r} and {shrink}."
        )
    if np.array_equal(unlearned, other) and (forgotten & never).any():
        raise InvalidInputError("`forgotten` and `never` overlap: one model cannot have both met an example and not.")
    rows = as_groups(groups, len(unlearned), "groups"), as_groups(other_groups, len(other), "other_groups")
    codes = np.unique(np.concatenate(rows), return_inverse=True)[1]
    values = np.concatenate([unlearned, other])
    inside = np.concatenate([forgotten, np.zeros_like(never)])
    outside = np.concatenate([np.zeros_like(forgotten), never])
    inside, outside = equal_numbers(inside, outside, codes, np.random.default_rng(derive(seed, "equal numbers")))
    random = np.random.default_rng(derive(seed, "exchanged sides"))
    turned = random.integers(0, 2, (codes.max() + 1, values.shape[1]), dtype=bool)[codes]
    exchanged = np.where(turned, outside, inside), np.where(turned, inside, outside)
    both = np.concatenate(rows)
    null = Likelihoods(*_ratios(values, *exchanged, codes, density, shrink), both, both, seed)
    first, second = _ratios(values, inside, outside, codes, density, shrink)
    return Likelihoods(first[: len(unlearned)], second[len(unlearned) :], *rows, seed, null)


def membership_auc(
    scores: np.ndarray,
    member: np.ndarray,
    groups: np.ndarray,
    *,
    nonmember: np.ndarray | None = None,
    cross_fitted: bool = True,
    level: float = 0.95,
    draws: int = 1000,
    seed: int,
) -> PooledAuc:
    """Return the pooled AUC of the scores of several attacked models, with an interval over groups of models.

    0.5: membership cannot be told. See `pooled_auc`.

    Args:
        scores: of `lira`, shape [K, n].
        member: where the model was trained on the example, bool, shape [K, n].
        groups: the group of each model, whole numbers, shape [K].
        nonmember: what to compare with; all that is not ``member`` unless given.
        cross_fitted: the attacked models are the shadow models themselves; False if they are others.
        level: of the interval.
        draws: bootstrap draws.
        seed: of the draws.

    Raises:
        ShapeError: tables that do not match.
        InvalidInputError: scores that are not finite, or overlapping masks.
    """
    scores = all_finite(as_scores(scores, "scores"), "scores")
    member = as_mask(member, scores.shape, "member")
    nonmember = ~member if nonmember is None else as_mask(nonmember, scores.shape, "nonmember")
    if (member & nonmember).any():
        raise InvalidInputError("`member` and `nonmember` overlap: an example is called both for one model.")
    inside, outside = np.where(member, scores, np.nan), np.where(nonmember, scores, np.nan)
    return pooled_auc(inside, outside, groups, groups, cross_fitted=cross_fitted, level=level, draws=draws, seed=seed)


def _present(values: np.ndarray) -> np.ndarray:
    return np.asarray(values[~np.isnan(values)])


def _ratios(
    values: np.ndarray, inside: np.ndarray, outside: np.ndarray, codes: np.ndarray, density: str, shrink: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cross-fitted scores of both sides, shape [rows, n] each, NaN off its mask."""
    asked = np.arange(codes.max() + 1)
    met = leave_group_out(values, inside, codes, asked, shrink, "met and forgot it")
    never = leave_group_out(values, outside, codes, asked, shrink, "never met it, in the same groups")
    met, never = with_floor([met, never])
    if density == "kde":
        score = log_kernels(values, inside, codes, met) - log_kernels(values, outside, codes, never)
    else:
        score = log_normal(values, met, codes) - log_normal(values, never, codes)
    return np.where(inside, score, np.nan), np.where(outside, score, np.nan)
