import numpy as np
import pytest
from scipy.stats import norm

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.epsilon import (
    CAP,
    challenge_score,
    epsilon_lower,
    epsilon_scores,
    forgetting_quality,
    forgetting_quality_compat,
    forgetting_quality_null,
    points,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def laws(models, examples, shift=0.0, seed=0):
    unlearned, retrained = rng(seed).normal(0, 1, (2, models, examples))
    return unlearned + shift, retrained


def of_attack(false_positive, false_negative, delta=1e-5):
    if false_positive == 0 and false_negative == 0:
        return np.inf
    if false_positive == 0 or false_negative == 0:
        return -np.inf
    left = max(1 - delta - false_positive, 1e-300), max(1 - delta - false_negative, 1e-300)
    return max(np.log(left[0]) - np.log(false_negative), np.log(left[1]) - np.log(false_positive))


def by_loop(unlearned, retrained, by_median):
    """One example, all single thresholds."""
    found = [0.0]
    up = np.median(unlearned) >= np.median(retrained)
    for t in np.append(unlearned, retrained):
        above = of_attack((retrained >= t).mean(), (unlearned < t).mean())
        below = of_attack((retrained < t).mean(), (unlearned >= t).mean())
        found += ([above] if up else [below]) if by_median else [above, below]
    return min(max(found), CAP)


class TestEpsilonScores:
    @pytest.mark.parametrize("by_median", [False, True])
    @pytest.mark.parametrize("decimals", [0, 1, 8])
    def test_agrees_with_a_loop(self, decimals, by_median):
        unlearned, retrained = (side.round(decimals) for side in laws(16, 30, 0.5))
        retrained = np.vstack([retrained, retrained[:5] + 1])  # other numbers of models
        found = epsilon_scores(unlearned, retrained, by_median=by_median)
        expected = [by_loop(u, r, by_median) for u, r in zip(unlearned.T, retrained.T, strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_intervals_agree_with_a_loop(self):
        """With 32 margins all of them are ends."""
        unlearned, retrained = laws(16, 12)
        unlearned *= rng(1).uniform(0.3, 3, 12)
        found, single = (epsilon_scores(unlearned, retrained, intervals=i) for i in (True, False))
        for i, (u, r) in enumerate(zip(unlearned.T, retrained.T, strict=True)):
            inner, outer = (u, r) if np.ptp(u) <= np.ptp(r) else (r, u)
            best, ends = single[i], np.append(u, r)
            for a in ends:
                for b in ends[ends >= a]:
                    if abs(b - a - np.ptp(inner)) <= 2:
                        missed = ((inner < a) | (inner > b)).mean()
                        best = max(best, of_attack(((outer >= a) & (outer <= b)).mean(), missed))
            assert found[i] == pytest.approx(best)

    def test_a_narrow_law_within_a_wide_one_is_found_best_by_intervals(self):
        retrained = rng(0).normal(0, 10, (256, 50))
        unlearned = rng(1).normal(0, 0.5, (256, 50))
        single, both = (epsilon_scores(unlearned, retrained, intervals=i) for i in (False, True))
        assert both.mean() > single.mean() + 0.1
        assert (both >= single).all()

    def test_laws_apart_or_one_of_no_width_are_capped(self):
        unlearned, retrained = laws(32, 3)
        unlearned[:, 0] += 50
        unlearned[:, 1] *= 1e-3
        found = epsilon_scores(unlearned, retrained)
        assert found[:2].tolist() == [CAP, CAP]
        assert found[2] < 5

    def test_an_example_with_equal_margins_everywhere_shows_nothing(self):
        unlearned, retrained = laws(32, 2)
        unlearned[:, 0] = retrained[:, 0] = 4.2
        assert epsilon_scores(unlearned, retrained, intervals=True)[0] == 0

    @pytest.mark.parametrize("intervals", [False, True])
    def test_order_and_constants_change_nothing_and_chunks_neither(self, intervals, monkeypatch):
        unlearned, retrained = laws(40, 9, 0.5)
        plain = epsilon_scores(unlearned, retrained, intervals=intervals)
        rows, columns, level = rng(3).permutation(40), rng(4).permutation(9), rng(5).normal(0, 9, 9)
        mixed = ((unlearned + level)[rows][:, columns], (retrained + level)[:, columns])
        monkeypatch.setattr("amnesty.evaluation.decision_rules._CHUNK", 1)
        np.testing.assert_allclose(epsilon_scores(*mixed, intervals=intervals), plain[columns])


class TestForgettingQualityCompat:
    @pytest.mark.parametrize("models", [20, 64, 256])
    def test_equal_laws_score_what_is_known(self, models):
        found = forgetting_quality_compat(*laws(models, 600), seed=0)
        assert 0.20 <= found.value <= 0.25
        assert np.median(found.epsilons) == pytest.approx(np.log(4), abs=0.02)
        assert found.null == pytest.approx(found.value, abs=0.05)
        assert found.ratio == pytest.approx(1, abs=0.2)

    def test_intervals_and_the_published_direction(self):
        sides = laws(64, 400)
        assert 0.16 < forgetting_quality_compat(*sides, intervals=True, seed=0).value < 0.20
        assert 0.16 < forgetting_quality_compat(*sides, intervals=True, by_median=True, seed=0).value < 0.20
        assert 0.31 < forgetting_quality_compat(*sides, by_median=True, seed=0).value < 0.37

    @pytest.mark.parametrize(("shift", "expected"), [(0.5, 0.073), (1, 0.017), (2, 0.0016)])
    def test_shifts_score_what_is_known(self, shift, expected):
        found = forgetting_quality_compat(*laws(512, 200, shift), seed=0)
        assert found.value == pytest.approx(expected, rel=0.15)
        assert found.ratio < 0.5

    def test_the_null_needs_retrained_models_only(self):
        unlearned, retrained = laws(64, 300, 3.0)
        found = forgetting_quality_compat(unlearned, retrained, seed=4)
        assert found.null == forgetting_quality_null(retrained, seed=4) > 10 * found.value


class TestPoints:
    def test_halve_with_each_half_and_end_with_the_bins(self):
        epsilons = np.array([0, 0.4999, 0.5, 0.9999, 1, 6.4999, 6.5, 6.9999, 7, CAP, np.inf])
        expected = [1, 1, 0.5, 0.5, 0.25, 2**-12, 2**-13, 2**-13, 0, 0, 0]
        assert points(epsilons).tolist() == expected
        assert points(epsilons, bins=13)[6] == 0

    def test_refuses_what_is_no_epsilon(self):
        for bad in (-1.0, np.nan):
            with pytest.raises(InvalidInputError, match="epsilons of 0 or more"):
                points(np.array([bad]))


class TestEpsilonLower:
    @pytest.mark.parametrize("models", [64, 256])
    def test_equal_laws_read_zero(self, models):
        bounds = epsilon_lower(*laws(models, 2000), seed=0)
        assert (bounds > 0).mean() < 0.005
        assert forgetting_quality(*laws(models, 2000), seed=0) > 0.998

    @pytest.mark.parametrize(
        ("models", "shift", "expected"),
        [(512, 1, 0.69), (512, 2, 0.067), (512, 3, 0.018), (64, 2, 0.55), (64, 3, 0.2)],
    )
    def test_shifts_score_what_is_known(self, models, shift, expected):
        assert forgetting_quality(*laws(models, 300, shift), seed=0) == pytest.approx(expected, rel=0.15)

    @pytest.mark.parametrize("shift", [0.1, 0.5, 1.5])
    def test_is_a_lower_bound_as_often_as_it_says(self, shift):
        """The truth is the best of all thresholds, by the normal law."""
        t = np.linspace(-8, 10, 4001)
        wrong, missed = norm.sf(t), norm.cdf(t, shift)
        truth = max(of_attack(a, b) for a, b in zip(wrong, missed, strict=True))
        bounds = epsilon_lower(*laws(128, 2000, shift), alpha=0.05, seed=0)
        assert (bounds > truth).mean() <= 0.05

    def test_choosing_and_judging_on_the_same_models_would_not_be(self):
        """Without the split equal laws show an epsilon of ln 4 at any number of models."""
        sides = laws(128, 300)
        assert np.median(epsilon_scores(*sides)) > 1.3
        assert np.median(epsilon_lower(*sides, seed=0)) == 0

    def test_sees_both_directions_alike(self):
        unlearned, retrained = laws(256, 300, 1.5)
        one, other = (epsilon_lower(s * unlearned, s * retrained, seed=0) for s in (1, -1))
        assert one.mean() == pytest.approx(other.mean(), rel=0.05)
        assert (one > 0).mean() > 0.9

    def test_grows_with_alpha_and_follows_the_seed(self):
        sides = laws(64, 50, 2.0)
        one, same, other, bold = (
            epsilon_lower(*sides, alpha=a, seed=s) for a, s in ((0.05, 0), (0.05, 0), (0.05, 1), (0.5, 0))
        )
        assert (one == same).all() and (one != other).any()
        assert (bold >= one).all() and bold.mean() > one.mean()

    def test_equal_margins_everywhere_show_nothing(self):
        unlearned, retrained = laws(32, 2)
        unlearned[:, 0] = retrained[:, 0] = 4.2
        assert epsilon_lower(unlearned, retrained, seed=0)[0] == 0

    def test_leaves_inputs_and_numpys_generator_alone(self):
        before, sides = np.random.get_state()[1].tolist(), laws(32, 4)
        kept = [side.copy() for side in sides]
        epsilon_lower(*sides, seed=0)
        assert all((a == b).all() for a, b in zip(kept, sides, strict=True))
        assert np.random.get_state()[1].tolist() == before


class TestChallengeScore:
    def test_is_the_product_with_both_ratios(self):
        found = challenge_score(0.2, np.array([0.9, 0.7]), np.array([1.0, 1.0]), 0.5, np.array([0.4, 0.6]))
        assert found == pytest.approx(0.2 * 0.8 * 1.0)
        assert challenge_score(1.0, 1.0, 0.5, 1.0, 0.5) == 4.0  # ratios are not capped

    def test_refuses_percent_and_references_of_zero(self):
        with pytest.raises(InvalidInputError, match="`retain` must be fractions"):
            challenge_score(0.2, 97.0, 1.0, 1.0, 1.0)
        with pytest.raises(InvalidInputError, match="`test` must be fractions"):
            challenge_score(0.2, 1.0, 1.0, np.array([]), 1.0)
        with pytest.raises(InvalidInputError, match="above 0"):
            challenge_score(0.2, 1.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("measure", [epsilon_scores, lambda u, r: epsilon_lower(u, r, seed=0)])
class TestBadInput:
    def test_one_retrained_model_is_no_law(self, measure):
        unlearned, retrained = laws(32, 4)
        with pytest.raises(InvalidInputError, match="`retrained` must hold 8 .* found 1. Noise added"):
            measure(unlearned, retrained[:1])
        with pytest.raises(InvalidInputError, match="`unlearned` must hold 8 .* found 7"):
            measure(unlearned[:7], retrained)

    def test_others_are_refused(self, measure):
        unlearned, retrained = laws(32, 4)
        with pytest.raises(ShapeError, match="column per example"):
            measure(unlearned, retrained[:, :3])
        with pytest.raises(InvalidInputError, match="Margins"):
            measure(unlearned > 0, retrained)
        with pytest.raises(InvalidInputError, match="finite"):
            measure(np.where(unlearned > 2, np.nan, unlearned), retrained)


def test_options_out_of_range_are_refused():
    sides = laws(32, 4)
    with pytest.raises(InvalidInputError, match="delta"):
        epsilon_scores(*sides, delta=1.0)
    with pytest.raises(InvalidInputError, match="alpha"):
        epsilon_lower(*sides, alpha=0, seed=0)
    with pytest.raises(InvalidInputError, match="found 7"):
        forgetting_quality_null(sides[1][:15], seed=0)
