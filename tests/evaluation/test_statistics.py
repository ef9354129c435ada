import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from amnesty.errors import InvalidInputError, MissingReferenceError
from amnesty.evaluation.pairs import sign_flip_p
from amnesty.evaluation.statistics import Summary, compare, equivalent, margin_of, summarise

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9)


def rng(seed=0):
    return np.random.default_rng(seed)


def fields(result):
    return [getattr(result, field.name) for field in dataclasses.fields(result)]


class TestSummarise:
    @pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
    @pytest.mark.parametrize("count", [2, 3, 10, 50])
    def test_agrees_with_scipy(self, count, level):
        numbers = rng(count).normal(3, 2, count)
        found = summarise(numbers, level=level)
        low, high = stats.t.interval(level, count - 1, numbers.mean(), stats.sem(numbers))
        assert (found.mean, found.deviation) == pytest.approx((numbers.mean(), numbers.std(ddof=1)))
        assert (found.low, found.high) == pytest.approx((low, high))
        assert (found.count, found.level) == (count, level)

    @given(values, st.randoms())
    def test_does_not_depend_on_order(self, numbers, random):
        shuffled = summarise(random.sample(numbers, len(numbers)))
        assert fields(shuffled) == pytest.approx(fields(summarise(numbers)), rel=1e-6, abs=1e-6)

    @given(values, st.sampled_from([-7.0, 0.5, 100.0]))
    def test_moves_with_its_values(self, numbers, offset):
        moved, found = summarise(np.array(numbers) + offset), summarise(numbers)
        assert moved.deviation == pytest.approx(found.deviation, rel=1e-6, abs=1e-6)
        for name in ("mean", "low", "high"):
            assert getattr(moved, name) == pytest.approx(getattr(found, name) + offset, rel=1e-6, abs=1e-6)

    def test_one_value_has_no_interval(self):
        assert summarise([0.25]) == Summary(0.25, None, None, None, 1)

    @pytest.mark.parametrize("value", [0.1, 1.0, 1e9, 0.0])
    def test_equal_values_have_no_spread(self, value):
        assert summarise([value] * 7) == Summary(value, 0.0, value, value, 7)

    @pytest.mark.parametrize("count", [2, 3, 10])
    def test_covers_the_truth_as_often_as_it_says(self, count):
        found = [summarise(rng(1000 + s).normal(5, 3, count), level=0.9) for s in range(1500)]
        assert np.mean([f.low <= 5 <= f.high for f in found]) == pytest.approx(0.9, abs=0.02)

    @pytest.mark.parametrize(
        ("numbers", "text"),
        [
            ([1.3, 1.86, 2.09], "1.75 ± 0.41 [0.74, 2.76], 3 seeds"),
            ([0.94, 0.942], "0.9410 ± 0.0014 [0.9283, 0.9537], 2 seeds"),
            ([120.0, 180.0], "150 ± 42 [-231, 531], 2 seeds"),
            ([0.5, 0.5], "0.5000 ± 0.0000 [0.5000, 0.5000], 2 seeds"),
            ([0.94123], "0.9412, 1 seed, no interval"),
        ],
    )
    def test_prints_as_many_digits_as_mean_something(self, numbers, text):
        assert str(summarise(numbers)) == text

    @pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [1.0, math.inf], [[1.0, 2.0]], 3.0])
    def test_refuses_what_is_not_one_number_per_seed(self, bad):
        with pytest.raises(InvalidInputError, match="`values` must"):
            summarise(bad)

    @pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5, math.nan])
    def test_refuses_a_level_outside_0_and_1(self, level):
        with pytest.raises(InvalidInputError, match="A level must lie between 0 and 1"):
            summarise([1.0, 2.0], level=level)


class TestCompare:
    @pytest.mark.parametrize("count", [2, 5, 12, 20])
    def test_agrees_with_scipy(self, count):
        first, second = rng(count).normal(1, 1, (2, count))
        found, paired = compare(first, second, level=0.9), stats.ttest_rel(first, second)
        interval = paired.confidence_interval(0.9)
        assert (found.difference, found.low, found.high) == pytest.approx(((first - second).mean(), *interval))
        assert found.effect == pytest.approx(paired.statistic / math.sqrt(count))
        assert found.p_value == sign_flip_p(first - second)

    def test_exchanged_sides_mirror(self):
        first, second = rng(3).normal(0, 1, (2, 9))
        one, other = compare(first, second), compare(second, first)
        assert (one.difference, one.low, one.high) == (-other.difference, -other.high, -other.low)
        assert (one.p_value, one.effect) == (other.p_value, -other.effect)

    def test_pairs_cancel_what_the_seeds_have_in_common(self):
        common = rng(0).normal(0, 100, 8)
        gain = np.linspace(0.9, 1.1, 8)
        found, plain = compare(common + gain, common), compare(gain, np.zeros(8))
        assert fields(found) == pytest.approx(fields(plain), rel=1e-9)
        assert found.significant and found.difference == pytest.approx(1)

    @pytest.mark.parametrize("count", [1, 2, 5, 6, 16, 17, 40])
    def test_order_of_the_seeds_changes_nothing(self, count):
        first, second = rng(count).normal(0, 1, (2, count))
        order = rng(1).permutation(count)
        found, shuffled = compare(first, second), compare(first[order], second[order])
        assert found.p_value == shuffled.p_value
        assert shuffled.difference == pytest.approx(found.difference)

    @pytest.mark.parametrize(("count", "smallest", "can"), [(1, 1.0, 0), (5, 0.0625, 0), (6, 0.03125, 1)])
    def test_says_whether_so_many_seeds_can_show_anything(self, count, smallest, can):
        found = compare(np.arange(count) + 100.0, np.arange(count))
        assert found.p_value == found.smallest_p == smallest
        assert found.significant == bool(can)
        if can:
            expected = "On 6 seeds the first is higher than the second: 100 [100, 100], sign-flip p = 0.031."
        else:
            seeds = {1: "1 seed", 5: "5 seeds"}[count]
            expected = (
                f"{seeds} cannot show a difference at level 0.95: the smallest reachable p is {smallest:.3g}; "
                "6 seeds could."
            )
        assert found.statement == expected

    def test_says_that_nothing_is_shown_and_which_side_is_lower(self):
        noise = np.array([1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 1.0, -0.5])
        assert compare(noise, np.zeros(8)).statement.startswith("On 8 seeds no difference is shown: 0.0625 [")
        assert "the first is lower" in compare(np.zeros(8), np.abs(noise)).statement

    def test_fewer_seeds_suffice_for_a_weaker_claim(self):
        found = compare([1.0, 2.0, 3.0, 4.0, 5.0], np.zeros(5), level=0.9)
        assert found.significant and "On 5 seeds the first is higher" in found.statement

    def test_one_seed_and_equal_differences_have_no_standard_effect(self):
        single = compare([2.0], [1.0])
        assert (single.difference, single.low, single.high, single.effect) == (1.0, None, None, None)
        assert compare([2.0, 3.0], [1.0, 2.0]).effect is None

    def test_equal_methods_do_not_differ(self):
        found = compare([0.3] * 8, [0.1 + 0.2] * 8)
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
        assert not found.significant

    def test_finds_no_difference_where_none_is_as_often_as_it_says(self):
        found = [compare(*rng(s).normal(0, 1, (2, 7))).significant for s in range(1000)]
        assert np.mean(found) == pytest.approx(6 / 128, abs=0.018)

    def test_refuses_unequal_sides(self):
        with pytest.raises(InvalidInputError, match="`first` has 3 values and `second` 2"):
            compare([1.0, 2.0, 3.0], [1.0, 2.0])


class TestEquivalent:
    @pytest.mark.parametrize("margin", [0.05, 0.3, 1.0, 3.0])
    @pytest.mark.parametrize("level", [0.9, 0.98])
    def test_is_two_one_sided_tests(self, margin, level):
        first, second = rng(5).normal(0, 0.5, (2, 9))
        found = equivalent(first, second, margin=margin, level=level)
        above = stats.ttest_1samp(first - second, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(first - second, margin, alternative="less").pvalue
        assert found.p_value == pytest.approx(max(above, below))
        assert found.shown == (found.p_value < (1 - level) / 2)
        assert (found.low, found.high) == pytest.approx(stats.ttest_rel(first, second).confidence_interval(level))

    def test_errs_as_often_as_it_says_at_the_margin_and_seldom_within(self):
        """At a true difference of just the margin, equivalence may be claimed in 5 % of the cases."""
        pairs = [rng(s).normal(0, 0.3, (2, 8)) for s in range(1500)]
        at = np.mean([equivalent(a + 1, b, margin=1.0).shown for a, b in pairs])
        within = np.mean([equivalent(a + 0.2, b, margin=1.0).shown for a, b in pairs])
        assert at == pytest.approx(0.05, abs=0.017)
        assert within > 0.95

    def test_no_significant_difference_is_not_equivalence(self):
        first, second = np.array([5.0, -4.0, 3.0, -3.5, 1.0, -2.0, 0.5]), np.zeros(7)
        assert not compare(first, second).significant
        found = equivalent(first, second, margin=0.1)
        assert not found.shown
        assert found.statement.startswith("7 seeds at level 0.9 cannot show equivalence")

    @pytest.mark.parametrize(
        ("offset", "statement"),
        [
            (0.0, "On 4 seeds at level 0.9 the two are equivalent: 0 [-0.173, 0.173] against a margin of 0.5."),
            (0.45, "On 4 seeds at level 0.9 equivalence is not shown: 0.45 ["),
            (-0.9, "On 4 seeds at level 0.9 the two differ by more than the margin: -0.9 ["),
        ],
    )
    def test_says_what_may_be_claimed(self, offset, statement):
        own = np.array([0.1, -0.1, 0.15, -0.15]) + offset
        assert equivalent(own, np.zeros(4), margin=0.5).statement.startswith(statement)

    @pytest.mark.parametrize(
        ("offset", "shown"), [(0.0, True), (0.25, True), (0.5, False), (-0.5, False), (1.0, False)]
    )
    def test_differences_without_spread_are_decided_by_their_size(self, offset, shown):
        found = equivalent(np.arange(4) + offset, np.arange(4), margin=0.5)
        assert (found.shown, found.p_value) == (shown, 0.0 if shown else 1.0)

    def test_order_of_the_seeds_changes_nothing(self):
        pairs = rng(0).normal(0, 1, (6, 2))
        one, other = (equivalent(*rows.T, margin=0.5) for rows in (pairs, pairs[::-1]))
        assert fields(one) == pytest.approx(fields(other))

    @pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
    def test_refuses_a_margin_that_is_not_positive(self, margin):
        with pytest.raises(InvalidInputError, match="`margin` must be positive and finite"):
            equivalent([1.0, 2.0], [1.0, 2.0], margin=margin)

    def test_refuses_a_single_seed_and_a_missing_reference(self):
        with pytest.raises(InvalidInputError, match="needs at least two seeds"):
            equivalent([1.0], [1.0], margin=0.1)
        for nothing in (None, []):
            with pytest.raises(MissingReferenceError, match="`reference` is missing"):
                equivalent([1.0], nothing, margin=0.1)


class TestMarginOf:
    def test_is_the_95th_percentile_of_the_differences(self):
        first, second = rng(0).normal(0, 1, (2, 400))
        expected = np.percentile(np.abs(first - second), 95)
        assert margin_of(first, second) == margin_of(second, first) == pytest.approx(expected)
        assert margin_of(first, second) == pytest.approx(1.96 * math.sqrt(2), rel=0.1)
        assert margin_of(first, second, share=0.5) == pytest.approx(0.6745 * math.sqrt(2), rel=0.1)

    def test_two_retrained_models_are_equivalent_by_it(self):
        """The mean over ten pairs varies less than a single pair does, by which the margin is set."""
        draws = rng(1).normal(0.94, 0.002, (4, 20))
        assert equivalent(draws[0, :10], draws[1, :10], margin=margin_of(draws[2], draws[3])).shown

    @pytest.mark.parametrize("nothing", [None, []])
    def test_needs_both_references(self, nothing):
        with pytest.raises(MissingReferenceError, match="`second_references` is missing"):
            margin_of([1.0, 2.0], nothing)
        with pytest.raises(MissingReferenceError, match="`references` is missing"):
            margin_of(nothing, [1.0, 2.0])

    def test_refuses_what_gives_no_margin(self):
        with pytest.raises(InvalidInputError, match="at least two pairs"):
            margin_of([1.0], [2.0])
        with pytest.raises(InvalidInputError, match="do not differ, so the margin would be 0"):
            margin_of([1.0, 0.5], [1.0, 0.5])
        with pytest.raises(InvalidInputError, match="`references` has 3 values and `second_references` 2"):
            margin_of([1.0, 2.0, 3.0], [1.0, 2.0])
