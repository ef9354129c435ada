import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score, roc_curve

from amnesty.errors import InvalidInputError
from amnesty.evaluation.curves import auc, roc, threshold_scan

scores = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=30).map(
    np.array
)


def rng(seed=0):
    return np.random.default_rng(seed)


class TestRoc:
    @given(scores, scores)
    def test_agrees_with_scikit_learn(self, members, nonmembers):
        truth = np.repeat([1, 0], [len(members), len(nonmembers)])
        fpr, tpr, thresholds = roc_curve(truth, np.concatenate([members, nonmembers]), drop_intermediate=False)
        found = roc(members, nonmembers)
        np.testing.assert_allclose(found.false_positive, fpr, atol=1e-15)
        np.testing.assert_allclose(found.true_positive, tpr, atol=1e-15)
        np.testing.assert_array_equal(found.thresholds, thresholds)

    @given(scores, scores)
    def test_distance_is_that_of_the_distribution_functions(self, members, nonmembers):
        below = [[(side <= t).mean() for t in [*members, *nonmembers]] for side in (members, nonmembers)]
        assert roc(members, nonmembers).ks == pytest.approx(np.abs(np.subtract(*below)).max(), abs=1e-12)

    @given(scores, scores)
    def test_reversed_is_that_of_the_negatives(self, members, nonmembers):
        found, expected = roc(members, nonmembers).reversed, roc(-members, -nonmembers)
        np.testing.assert_array_equal(found.thresholds, expected.thresholds)
        np.testing.assert_array_equal(found.members_called, expected.members_called)
        np.testing.assert_array_equal(found.nonmembers_called, expected.nonmembers_called)

    @given(scores, scores, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
    def test_rate_is_the_largest_of_all_thresholds(self, members, nonmembers, fpr):
        tried = [math.inf, *members, *nonmembers]
        allowed = [t for t in tried if (nonmembers >= t).mean() <= fpr]
        assert roc(members, nonmembers).rate_at(fpr) == max((members >= t).mean() for t in allowed)

    @given(scores, scores)
    def test_threshold_comes_from_the_non_members_alone(self, members, nonmembers):
        """Just above the largest of their scores that may not be called."""
        barred = np.sort(nonmembers)[::-1][min(int(0.2 * len(nonmembers)), len(nonmembers) - 1)]
        assert roc(members, nonmembers).rate_at(0.2) == (members > barred).mean()

    def test_rates_of_decimal_fractions_are_reached(self):
        """1 of 1000 is a rate of 0.001, not a rounding above it."""
        for count, fpr in [(1000, 0.001), (1000, 0.01), (300, 0.01), (70, 0.1), (30, 0.7)]:
            allowed = round(count * fpr)
            assert roc(np.array([count - allowed - 0.5]), np.arange(count)).rate_at(fpr) == 1

    @pytest.mark.parametrize("fpr", [-0.1, 1.1, math.nan])
    def test_rates_out_of_range_are_refused(self, fpr):
        with pytest.raises(InvalidInputError, match=r"\[0, 1\]"):
            roc(np.ones(2), np.zeros(2)).rate_at(fpr)

    def test_of_two_normal_laws(self):
        found = roc(rng(0).normal(1, 1, 400_000), rng(1).normal(0, 1, 400_000))
        assert found.auc == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.002)
        assert found.ks == pytest.approx(2 * norm.cdf(0.5) - 1, abs=0.003)
        assert found.best.accuracy == pytest.approx(norm.cdf(0.5), abs=0.002)
        assert found.rate_at(0.01) == pytest.approx(norm.sf(norm.isf(0.01) - 1), abs=0.004)
        assert found.reversed.rate_at(0.01) == pytest.approx(norm.sf(norm.isf(0.01) + 1), abs=0.001)

    @given(scores, scores, st.integers(0, 99))
    def test_reads_order_only(self, members, nonmembers, seed):
        both = np.unique(np.concatenate([members, nonmembers]))
        ranks = [np.searchsorted(both, rng(seed).permutation(side)).astype(float) for side in (members, nonmembers)]
        found, other = roc(members, nonmembers), roc(*ranks)
        np.testing.assert_array_equal(found.members_called, other.members_called)
        assert (found.auc, found.ks, found.best.accuracy) == (other.auc, other.ks, other.best.accuracy)


class TestAuc:
    @given(scores, scores)
    def test_agrees_with_scikit_learn_and_scipy(self, members, nonmembers):
        found = auc(members, nonmembers)
        truth = np.repeat([1, 0], [len(members), len(nonmembers)])
        assert found == pytest.approx(roc_auc_score(truth, np.concatenate([members, nonmembers])), abs=1e-12)
        u = mannwhitneyu(members, nonmembers, method="asymptotic").statistic
        assert found == pytest.approx(u / len(members) / len(nonmembers), abs=1e-12)

    @given(scores, scores)
    def test_sides_mirror_each_other(self, members, nonmembers):
        assert auc(members, nonmembers) + auc(nonmembers, members) == pytest.approx(1)
        assert auc(-members, -nonmembers) == pytest.approx(auc(nonmembers, members))

    def test_known_cases(self):
        assert auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
        assert auc(np.array([0.0]), np.array([1.0])) == 0
        assert auc(np.ones(5), np.ones(3)) == 0.5
        assert auc(np.array([math.inf]), np.array([-math.inf, 0.0])) == 1


class TestThresholdScan:
    @given(scores, scores)
    def test_finds_what_trying_all_finds(self, members, nonmembers):
        def accuracy(threshold):
            return ((members >= threshold).mean() + (nonmembers < threshold).mean()) / 2

        found = threshold_scan(members, nonmembers)
        best = max(accuracy(t) for t in np.concatenate([members, nonmembers]))
        assert found.accuracy == pytest.approx(best, abs=1e-12)
        assert accuracy(found.threshold) == pytest.approx(found.accuracy, abs=1e-12)
        assert found.accuracy >= 0.5 - 1e-12

    def test_known_cases(self):
        assert threshold_scan(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == (2.0, 1.0)
        assert threshold_scan(np.ones(4), np.ones(4)) == (1.0, 0.5)

    @given(scores, scores, st.integers(0, 99))
    def test_does_not_depend_on_order(self, members, nonmembers, seed):
        shuffled = threshold_scan(rng(seed).permutation(members), rng(seed).permutation(nonmembers))
        assert shuffled == pytest.approx(threshold_scan(members, nonmembers))


@pytest.mark.parametrize("measure", [auc, threshold_scan, roc])
class TestBadScores:
    def test_no_example_is_refused(self, measure):
        for sides in [([], [1.0]), ([1.0], [])]:
            with pytest.raises(InvalidInputError, match="needs members and non-members"):
                measure(*map(np.array, sides))

    def test_nan_is_refused(self, measure):
        for sides in [([math.nan], [1.0]), ([1.0], [0.0, math.nan])]:
            with pytest.raises(InvalidInputError, match="NaN"):
                measure(*map(np.array, sides))

    def test_tables_are_refused(self, measure):
        with pytest.raises(InvalidInputError, match="one score for each example"):
            measure(np.ones((2, 2)), np.ones(3))
