import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.likeness import likeness


def normal(mean, n, seed, deviation=1.0):
    return np.random.default_rng(seed).normal(mean, deviation, n)


class TestTest:
    def test_p_values_are_uniform_where_both_are_alike(self):
        found = [likeness(normal(0, 60, s), normal(0, 90, s + 999), original=None, draws=100) for s in range(150)]
        p = np.array([x.p_value for x in found])
        for level in (0.1, 0.5, 0.9):
            assert abs((p <= level).mean() - level) < 0.11  # 0.04 of it is the standard error
        assert np.mean([x.differs for x in found]) < 0.1
        assert all(x.differs == (x.p_value <= 0.05) for x in found)

    def test_finds_both_directions_and_spread(self):
        for forget in (normal(1, 200, 0), normal(-1, 200, 0), normal(0, 200, 0, 3)):
            assert likeness(forget, normal(0, 300, 1), original=None, draws=100).p_value < 1e-3


class TestInterval:
    @pytest.mark.parametrize("shift", [0.0, 0.6])
    def test_holds_the_true_distance_about_as_often_as_it_says(self, shift):
        truth = 2 * norm.cdf(shift / 2) - 1
        found = [
            likeness(normal(shift, 80, s), normal(0, 120, s + 999), original=None, draws=150) for s in range(100)
        ]
        assert np.mean([x.low <= truth <= x.high for x in found]) >= 0.9
        assert all(0 <= x.low <= x.distance <= x.high <= 1 for x in found)

    def test_is_narrower_with_more_examples(self):
        few, many = (likeness(normal(0.5, n, 0), normal(0, n, 1), original=None, draws=200) for n in (50, 2000))
        assert many.high - many.low < (few.high - few.low) / 4


class TestPower:
    def test_is_about_the_level_where_the_original_does_not_remember(self):
        same = normal(0, 4000, 5)
        found = likeness(normal(0, 100, 0), normal(0, 150, 1), original=(same, same), draws=2000)
        assert 0.02 < found.power < 0.08
        assert not found.conclusive

    def test_of_few_like_examples_stays_below_what_counts_as_conclusive(self):
        found = []
        for s in range(60):
            pair = normal(0, 80, s), normal(0, 120, s + 999)
            found.append(likeness(*pair, original=pair, draws=100))
        assert np.mean([x.power for x in found]) < 0.45
        assert np.mean([x.conclusive for x in found]) < 0.08

    def test_is_near_one_where_the_original_remembers_well(self):
        found = likeness(normal(0, 100, 0), normal(0, 150, 1), original=(normal(3, 90, 2), normal(0, 200, 3)))
        assert found.power > 0.99
        assert found.conclusive

    def test_grows_with_the_number_of_examples(self):
        original = normal(0.4, 3000, 2), normal(0, 3000, 3)
        powers = [
            likeness(normal(0, n, 0), normal(0, n, 1), original=original, draws=300).power for n in (20, 100, 400)
        ]
        assert powers == sorted(powers)
        assert powers[0] < 0.3 and powers[2] > 0.95

    def test_agrees_with_fresh_samples(self):
        """From large originals the resamples are nearly samples of the law itself."""
        original = normal(0.5, 20000, 2), normal(0, 20000, 3)
        found = likeness(normal(0, 60, 0), normal(0, 80, 1), original=original, draws=500).power
        fresh = [
            likeness(normal(0.5, 60, s), normal(0, 80, s + 9999), original=None, draws=100).differs
            for s in range(150)
        ]
        assert found == pytest.approx(np.mean(fresh), abs=0.12)

    def test_needs_the_original(self):
        found = likeness(normal(0, 20, 0), normal(0, 20, 1), original=None)
        assert found.power is None
        assert not found.conclusive

    @pytest.mark.parametrize("n", [20, 200])
    def test_the_detectable_distance_is_found_about_four_times_in_five(self, n):
        """If the laws differ at one point only; more often if they differ in many places."""
        parts = normal(0, n, 0), normal(0, n, 1)
        distance = likeness(*parts, original=None, draws=100).detectable
        at_one_point = tuple((np.arange(20000) < 10000 * (1 + s * distance)).astype(float) for s in (1, -1))
        assert 0.72 < likeness(*parts, original=at_one_point).power < 0.88
        shift = 2 * norm.ppf((1 + distance) / 2)
        shifted = normal(shift, 20000, 2), normal(0, 20000, 3)
        assert likeness(*parts, original=shifted).power > 0.9


class TestGaps:
    def test_wasserstein_of_a_shift_is_the_shift(self):
        unseen = normal(0, 50, 0)
        found = likeness(unseen + 1.5, unseen, original=None)
        assert found.wasserstein == pytest.approx(1.5)
        assert (found.low_quantile_gap, found.median_gap, found.high_quantile_gap) == pytest.approx((1.5,) * 3)

    def test_wasserstein_is_scipys_and_scales(self):
        forget, unseen = normal(1, 30, 0), normal(0, 45, 1)
        found = likeness(forget, unseen, original=None).wasserstein
        assert found == pytest.approx(wasserstein_distance(forget, unseen))
        assert likeness(9 * forget, 9 * unseen, original=None).wasserstein == pytest.approx(9 * found)

    def test_signs_tell_which_end_is_remembered(self):
        unseen = np.linspace(-1, 1, 101)
        forget = np.where(unseen < -0.5, unseen - 2, np.where(unseen > 0.5, unseen + 3, unseen))
        found = likeness(forget, unseen, original=None)
        assert found.low_quantile_gap == pytest.approx(-2)
        assert found.median_gap == pytest.approx(0)
        assert found.high_quantile_gap == pytest.approx(3)


class TestInvariance:
    def parts(self):
        return normal(0.5, 40, 0), normal(0, 60, 1), (normal(1, 40, 2), normal(0, 60, 3))

    def test_shuffling_changes_nothing(self):
        forget, unseen, original = self.parts()
        shuffled = [np.random.default_rng(7).permutation(x) for x in (forget, unseen, *original)]
        assert likeness(*shuffled[:2], original=tuple(shuffled[2:])) == likeness(forget, unseen, original=original)

    def test_a_rising_function_of_the_margins_changes_only_what_is_in_nats(self):
        forget, unseen, original = self.parts()
        bent = likeness(np.exp(forget), np.exp(unseen), original=tuple(map(np.exp, original)))
        plain = likeness(forget, unseen, original=original)
        for name in ("distance", "low", "high", "p_value", "power", "detectable"):
            assert getattr(bent, name) == pytest.approx(getattr(plain, name))

    def test_sides_mirror_each_other(self):
        forget, unseen, _ = self.parts()
        one, other = likeness(forget, unseen, original=None), likeness(unseen, forget, original=None)
        assert one.distance == pytest.approx(other.distance)
        assert one.p_value == pytest.approx(other.p_value)
        assert one.median_gap == -other.median_gap

    def test_follows_the_seed_and_leaves_all_else_alone(self):
        forget, unseen, original = self.parts()
        before = np.random.get_state()[1].tolist(), forget.copy()
        one, same, other = (likeness(forget, unseen, original=original, seed=s, draws=100) for s in (0, 0, 1))
        assert dataclasses.asdict(one) == dataclasses.asdict(same) != dataclasses.asdict(other)
        assert np.random.get_state()[1].tolist() == before[0]
        assert (forget == before[1]).all()


class TestBadInput:
    @pytest.mark.parametrize("which", range(4))
    @pytest.mark.parametrize(
        ("bad", "match"),
        [
            (np.zeros(7), "at least 8 examples"),
            (np.zeros((9, 2)), r"shape \[n\]"),
            (np.append(np.ones(9), math.nan), "must be finite"),
            (np.append(np.ones(9), math.inf), "must be finite"),
        ],
    )
    def test_samples_that_cannot_be_compared_are_refused(self, which, bad, match):
        parts = [normal(0, 20, s) for s in range(4)]
        parts[which] = bad
        with pytest.raises((InvalidInputError, ShapeError), match=match):
            likeness(parts[0], parts[1], original=(parts[2], parts[3]))

    def test_equal_margins_are_refused(self):
        with pytest.raises(InvalidInputError, match="All margins are equal"):
            likeness(np.ones(9), np.ones(12), original=None)

    def test_settings_are_checked(self):
        for bad in ({"level": 1.0}, {"level": 0.0}, {"draws": 10}):
            with pytest.raises(InvalidInputError, match="`level` must be in"):
                likeness(normal(0, 9, 0), normal(0, 9, 1), original=None, **bad)
        with pytest.raises(InvalidInputError, match="no distance is significant"):
            likeness(normal(0, 8, 0), normal(0, 8, 1), original=None, level=0.9999999)
