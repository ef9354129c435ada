import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, wilcoxon

from amnesty.errors import InvalidInputError
from amnesty.evaluation.pairs import LARGEST_EXACT, paired_differences, seeds_needed, sign_flip_p, smallest_p

differences = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3)), min_size=1, max_size=8)


def rng(seed=0):
    return np.random.default_rng(seed)


def by_enumeration(values):
    """The share of all assignments of signs with a sum at least as far from 0."""
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in all_signs(len(values))]
    reached = abs(sum(values)) - 1e-9 * sum(map(abs, values))
    return sum(total >= reached for total in sums) / len(sums)


def all_signs(count):
    return itertools.product([1, -1], repeat=count)


class TestSignFlipP:
    @given(differences)
    def test_agrees_with_trying_all_signs(self, values):
        assert sign_flip_p(values) == by_enumeration(values)

    @pytest.mark.parametrize("count", [2, 5, 8, 11])
    def test_agrees_with_scipy(self, count):
        values = rng(count).normal(0.5, 1, count)
        found = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(values) == pytest.approx(found.pvalue)

    @pytest.mark.parametrize("count", [3, 6, 10, 16])
    def test_of_ranks_is_wilcoxons(self, count):
        """Wilcoxon's exact test is the sign-flip test of signed ranks."""
        values = rng(count).permutation(np.arange(1, count + 1)) * rng(count + 1).choice([-1.0, 1.0], count)
        assert sign_flip_p(values) == pytest.approx(wilcoxon(values, method="exact").pvalue)

    @given(differences, st.randoms(), st.sampled_from([1e-8, 2.0, 1e8]))
    def test_ignores_order_direction_and_scale(self, values, random, scale):
        shuffled = random.sample(values, len(values))
        changed = [np.array(shuffled), -np.array(values), scale * np.array(values)]
        assert {sign_flip_p(other) for other in changed} == {sign_flip_p(values)}

    @pytest.mark.parametrize(("count", "p_value"), [(1, 1.0), (2, 0.5), (5, 0.0625), (6, 0.03125), (10, 2 / 1024)])
    def test_its_smallest_value_is_reached_when_all_agree(self, count, p_value):
        assert sign_flip_p(np.full(count, 0.1)) == smallest_p(count) == p_value
        assert sign_flip_p(rng(count).uniform(1, 100, count)) == p_value

    @given(differences)
    def test_is_never_below_the_smallest(self, values):
        assert smallest_p(len(values)) <= sign_flip_p(values) <= 1

    def test_no_difference_at_all_gives_one(self):
        for count in (1, 5, LARGEST_EXACT, 40):
            assert sign_flip_p(np.zeros(count)) == 1

    @pytest.mark.parametrize("mean", [0.0, 0.4, 0.8])
    def test_random_signs_agree_with_all_of_them(self, mean):
        values = rng(4).normal(mean, 1, 18)
        sums = [np.zeros(1)]
        for value in values:
            sums = [np.concatenate([s + value, s - value]) for s in sums]
        exact = np.mean(np.abs(sums[0]) >= abs(values.sum()) - 1e-9)
        found = sign_flip_p(values)
        assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 19_999) + 1e-4)
        assert found == sign_flip_p(rng(1).permutation(-values))
        assert found != sign_flip_p(values, seed=1)
        assert found == pytest.approx(sign_flip_p(values, seed=1), abs=0.02)

    def test_random_signs_never_give_zero(self):
        assert sign_flip_p(np.full(60, 1.0)) == smallest_p(60) == 1 / 20_000

    def test_holds_its_level(self):
        """With skewed but symmetric-about-0 differences p <= 0.05 comes up in at most 5 % of the cases."""
        found = [sign_flip_p(rng(s).standard_t(2, 8)) for s in range(1500)]
        for level in (0.02, 0.05, 0.2):
            assert np.mean(np.array(found) <= level) <= level + 2.6 * np.sqrt(level * (1 - level) / 1500)
        assert np.mean(np.array(found) <= 0.2) == pytest.approx(0.2, abs=0.03)

    def test_leaves_numpys_generator_alone(self):
        before = np.random.get_state()[1].tolist()
        sign_flip_p(np.arange(30.0))
        assert np.random.get_state()[1].tolist() == before


class TestSeedsNeeded:
    @pytest.mark.parametrize("threshold", [0.5, 0.1, 0.0625, 0.05, 0.01, 0.001])
    def test_is_the_first_number_that_can_reach_the_threshold(self, threshold):
        count = seeds_needed(threshold)
        assert 2.0 ** (1 - count) <= threshold < 2.0 ** (2 - count)


class TestPairedDifferences:
    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=1, max_size=9))
    def test_are_differences(self, pairs):
        first, second = np.array(pairs).T
        np.testing.assert_allclose(paired_differences(("a", "b"), first, second), first - second, atol=1e-13, rtol=0)

    def test_rounding_is_no_difference(self):
        assert 0.1 + 0.2 != 0.3
        assert paired_differences(("a", "b"), [0.1 + 0.2, 1.0], [0.3, 1.0 - 1e-9]).tolist() == [
            0.0,
            pytest.approx(1e-9, rel=1e-6),
        ]

    @pytest.mark.parametrize(
        ("first", "second", "reason"),
        [
            ([1.0, 2.0], [1.0], "`a` has 2 values and `b` 1, but they are compared seed by seed"),
            ([], [], "`a` must hold one number per seed"),
            ([[1.0]], [1.0], r"`a` must hold one number per seed, but has shape \[1, 1\]"),
            ([1.0], 1.0, r"`b` must hold one number per seed, but has shape \[\]"),
            ([1.0, np.nan], [1.0, 2.0], r"`a` must be finite, but is NaN or infinite at \[1\]"),
            ([1.0, 2.0], [-np.inf, 2.0], r"`b` must be finite, but is NaN or infinite at \[0\]"),
        ],
    )
    def test_refuses_what_is_no_pair(self, first, second, reason):
        with pytest.raises(InvalidInputError, match=reason):
            paired_differences(("a", "b"), first, second)
