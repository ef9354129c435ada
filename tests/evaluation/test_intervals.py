import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from amnesty.errors import InvalidInputError
from amnesty.evaluation.intervals import (
    Interval,
    auc_interval,
    clopper_pearson,
    difference_of_rates,
    paired_difference,
    wilson,
)

counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.sampled_from([0.5, 0.9, 0.95, 0.999])


def rng(seed=0):
    return np.random.default_rng(seed)


def verdicts(both, only_first, only_second, neither):
    cells = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], cells), np.repeat([True, False, True, False], cells)


def coverage(draw, truth, rounds=400):
    found = [draw(rng(seed)) for seed in range(rounds)]
    return np.mean([i.low <= truth <= i.high for i in found])


class TestRates:
    @pytest.mark.parametrize(("interval", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
    @given(of=counts, level=levels)
    @settings(max_examples=60)
    def test_agree_with_scipy(self, interval, method, of, level):
        found, expected = interval(*of, level), binomtest(*of).proportion_ci(level, method)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert found.value == of[0] / of[1]

    @pytest.mark.parametrize("interval", [wilson, clopper_pearson])
    @pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5])
    def test_cover_what_they_say(self, interval, share):
        """Summed over all outcomes; the exact one never covers less, Wilson's little less."""
        n = 150
        chances = np.array([math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)])
        inside = [i.low <= share <= i.high for i in (interval(k, n) for k in range(n + 1))]
        assert chances @ inside >= (0.95 if interval is clopper_pearson else 0.92)

    @pytest.mark.parametrize("interval", [wilson, clopper_pearson])
    @pytest.mark.parametrize(("of", "match"), [((1, 0), "at least one"), ((3, 2), "<= count"), ((-1, 2), "0 <=")])
    def test_impossible_counts_are_refused(self, interval, of, match):
        with pytest.raises(InvalidInputError, match=match):
            interval(*of)

    @pytest.mark.parametrize("level", [0, 1, 95, math.nan])
    def test_levels_out_of_range_are_refused(self, level):
        for make in (wilson, clopper_pearson):
            with pytest.raises(InvalidInputError, match="`level`"):
                make(1, 2, level)


class TestAucInterval:
    @pytest.mark.parametrize(("n", "m"), [(5, 5), (5, 60), (10, 10), (30, 300), (200, 200)])
    @pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
    def test_covers_what_it_says(self, n, m, shift):
        """Beside it DeLong's own falls to 55 % at a shift of 2.5 with five examples each."""
        found = coverage(
            lambda r: auc_interval(r.normal(shift, 1, n), r.normal(0, 1, m)), norm.cdf(shift / math.sqrt(2))
        )
        assert found > 0.92

    def test_covers_when_few_scores_differ(self):
        found = coverage(lambda r: auc_interval(1.0 * (r.random(60) < 0.95), 1.0 * (r.random(90) < 0.85)), 0.55)
        assert found > 0.92

    def test_is_delongs_with_many_examples(self):
        members, nonmembers = rng(0).normal(0.3, 1, 1500), rng(1).normal(0, 2, 2000)
        wins = (members[:, None] > nonmembers) + 0.5 * (members[:, None] == nonmembers)
        error = math.sqrt(wins.mean(1).var(ddof=1) / 1500 + wins.mean(0).var(ddof=1) / 2000)
        found = auc_interval(members, nonmembers)
        assert found.value == pytest.approx(wins.mean(), abs=1e-12)
        assert found.high - found.low == pytest.approx(2 * 1.959964 * error, rel=0.01)

    @pytest.mark.parametrize("n", [1, 2, 5, 100])
    def test_is_no_point_where_the_sides_do_not_overlap(self, n):
        above = auc_interval(np.arange(n) + 1000.0, np.arange(n))
        below = auc_interval(np.arange(n), np.arange(n) + 1000.0)
        assert above.value == above.high == 1 and 0 < above.low < 1
        assert (below.low, below.high) == pytest.approx((0, 1 - above.low))

    def test_of_equal_scores_is_wide(self):
        found = auc_interval(np.ones(10), np.ones(10))
        assert found.value == 0.5 and found.high - found.low > 0.4

    @given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.lists(st.integers(0, 4), min_size=1, max_size=12))
    @settings(max_examples=60)
    def test_stays_in_range_and_mirrors(self, members, nonmembers):
        found, other = (auc_interval(s * np.array(members), s * np.array(nonmembers)) for s in (1, -1))
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.low < found.high
        assert (1 - other.high, 1 - other.low) == pytest.approx((found.low, found.high), abs=1e-12)


class TestDifferences:
    def test_published_examples(self):
        """Newcombe 1998: page 877, method 10; and its twin for pairs, page 2641, method 10."""
        found = difference_of_rates(56, 70, 48, 80)
        assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
        found = paired_difference(*verdicts(36, 12, 2, 0))
        assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)

    def test_cover_what_they_say(self):
        def different(r):
            return difference_of_rates(int(r.binomial(40, 0.9)), 40, int(r.binomial(60, 0.7)), 60)

        def paired(r):
            base, u, v = r.random(80) < 0.8, r.random(80) < 0.1, r.random(80) < 0.05
            return paired_difference(base ^ u, base ^ v)

        assert coverage(different, 0.2) > 0.92
        assert coverage(paired, (0.8 * 0.9 + 0.2 * 0.1) - (0.8 * 0.95 + 0.2 * 0.05)) > 0.92

    @given(counts, counts)
    @settings(max_examples=60)
    def test_mirror_and_stay_in_range(self, one, other):
        found, back = difference_of_rates(*one, *other), difference_of_rates(*other, *one)
        assert -1 <= found.low <= found.value <= found.high <= 1
        assert found.low < found.high
        assert (-back.high, -back.low) == pytest.approx((found.low, found.high), abs=1e-12)

    @given(st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(sum))
    @settings(max_examples=60)
    def test_of_pairs_mirror_and_stay_in_range(self, cells):
        first, second = verdicts(*cells)
        found, back = paired_difference(first, second), paired_difference(second, first)
        assert -1 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1
        assert (-back.high, -back.low) == pytest.approx((found.low, found.high), abs=1e-12)

    def test_pairs_that_agree_are_worth_more(self):
        first, second = verdicts(70, 5, 5, 20)
        paired = paired_difference(first, second)
        unpaired = difference_of_rates(int(first.sum()), 100, int(second.sum()), 100)
        assert paired.high - paired.low < 0.7 * (unpaired.high - unpaired.low)

    def test_two_equal_models_are_not_known_to_be_equal(self):
        found = paired_difference(*verdicts(70, 0, 0, 30))
        assert found.value == 0 and 0 < found.high < 0.1
        assert found.low == pytest.approx(-found.high)

    @pytest.mark.parametrize(
        "sides",
        [
            (np.ones(3, bool), np.ones(4, bool)),
            (np.ones(3), np.ones(3, bool)),
            (np.ones(0, bool), np.ones(0, bool)),
            (np.ones((2, 2), bool), np.ones((2, 2), bool)),
        ],
    )
    def test_what_are_no_pairs_is_refused(self, sides):
        with pytest.raises(InvalidInputError, match="two bool arrays"):
            paired_difference(*sides)


def test_intervals_cannot_be_changed():
    with pytest.raises(AttributeError):
        Interval(1, 0, 2).low = 3
