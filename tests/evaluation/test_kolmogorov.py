import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from amnesty.evaluation.kolmogorov import EXACT, Pair, critical_distance, p_value


def rng(seed=0):
    return np.random.default_rng(seed)


scores = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-50, 50)), min_size=1, max_size=25).map(np.array)


def distance(first, second):
    return float(np.abs(Pair.of(first, second).observed()).max())


@given(scores, scores)
@settings(max_examples=60)
def test_the_distance_is_scipys(first, second):
    assert distance(first, second) == pytest.approx(ks_2samp(first, second).statistic, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(8, 8), (8, 21), (30, 30), (25, 40), (100, 150)])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_small_samples_have_scipys_exact_p_value(n, m, shift):
    expected = ks_2samp(rng(n).normal(size=n) + shift, rng(m + 1).normal(size=m), method="exact")
    assert p_value(expected.statistic, n, m) == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-13)


def test_large_samples_have_scipys_asymptotic_p_value():
    expected = ks_2samp(rng(0).normal(size=600) + 0.1, rng(1).normal(size=500), method="asymp")
    assert p_value(expected.statistic, 600, 500) == pytest.approx(expected.pvalue)


def test_both_laws_meet_where_one_takes_over():
    n = EXACT // 2
    assert critical_distance(0.05, n, n) == pytest.approx(critical_distance(0.05, n + 1, n), rel=0.05)


@pytest.mark.parametrize(("n", "m"), [(8, 8), (9, 14), (60, 60), (40, 100)])
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_the_critical_distance_is_the_smallest_that_rejects(n, m, alpha):
    found, unit = critical_distance(alpha, n, m), math.gcd(n, m) / (n * m)
    assert p_value(found, n, m) <= alpha < p_value(found - unit, n, m)


def test_the_critical_distance_does_not_depend_on_which_is_first_and_may_not_exist():
    assert critical_distance(0.05, 12, 30) == critical_distance(0.05, 30, 12)
    assert critical_distance(1e-9, 8, 8) == math.inf


class TestResampled:
    @pytest.mark.parametrize("sizes", [(9, 14), (5, 40)])
    def test_has_the_law_of_a_plain_loop(self, sizes):
        first, second = rng(0).integers(0, 6, 12) * 1.0, rng(1).normal(3, 2, 20)
        found = Pair.of(first, second).resampled(sizes, 2000, rng(2))
        random = rng(3)
        slow = [distance(random.choice(first, sizes[0]), random.choice(second, sizes[1])) for _ in range(2000)]
        assert found.mean() == pytest.approx(np.mean(slow), abs=0.02)
        assert found.std() == pytest.approx(np.std(slow), abs=0.02)

    def test_of_constant_samples_is_sure(self):
        assert Pair.of(np.zeros(9), np.ones(8)).resampled((9, 8), 10, rng()) == pytest.approx(1)

    def test_runs_in_pieces_where_all_at_once_would_not_fit(self, monkeypatch):
        monkeypatch.setitem(Pair.resampled.__globals__, "ROOM", 100)
        assert Pair.of(rng(0).normal(size=9), rng(1).normal(size=9)).resampled((9, 9), 10, rng()).shape == (10,)
