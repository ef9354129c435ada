import numpy as np
import pytest
from scipy.stats import binomtest

from amnesty.evaluation.decision_rules import chosen_threshold, epsilon_of_rates, upper_bounds


def rates(*values):
    return np.array(values, dtype=float)


class TestEpsilonOfRates:
    def test_is_the_larger_of_both_bounds(self):
        found = epsilon_of_rates(rates(0.1, 0.5, 1e-3), rates(0.2, 0.5, 0.9), 0.01)
        expected = [np.log(0.89 / 0.2), np.log(0.49 / 0.5), np.log(0.09 / 1e-3)]
        expected[0] = max(expected[0], np.log(0.79 / 0.1))
        np.testing.assert_allclose(found, expected)

    def test_no_error_is_infinite_and_an_error_of_one_kind_alone_is_no_attack(self):
        found = epsilon_of_rates(rates(0, 0, 0.3, 1, 0, 1), rates(0, 0.3, 0, 0, 1, 1), 1e-5)
        assert found.tolist() == [np.inf] + [-np.inf] * 5


def test_upper_bounds_are_those_of_scipy():
    found = upper_bounds(np.arange(31), 30, 0.025)
    expected = [binomtest(k, 30).proportion_ci(0.95, "exact").high for k in range(31)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


class TestChosenThreshold:
    @pytest.mark.parametrize("sign", [1, -1])
    def test_lies_between_two_laws_that_are_apart(self, sign):
        retrained = sign * np.linspace(0, 1, 9)[:, None]
        unlearned = sign * np.linspace(3, 4, 9)[:, None]
        threshold, above = chosen_threshold(unlearned, retrained, 1e-5)
        assert sign * threshold == 2
        assert above == (sign > 0)

    def test_equal_margins_have_none(self):
        threshold, _ = chosen_threshold(np.ones((8, 1)), np.ones((9, 1)), 1e-5)
        assert np.isnan(threshold)
