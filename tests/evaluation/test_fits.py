import numpy as np
import pytest
from scipy.stats import norm

from amnesty.errors import InvalidInputError
from amnesty.evaluation.fits import leave_group_out, log_kernels, log_normal, with_floor

GROUPS = np.arange(12) // 2


def rng(seed=0):
    return np.random.default_rng(seed)


def table(seed=0, models=12, examples=7):
    """Margins, and a mask with half of the models of each group."""
    mask = np.repeat(rng(seed).integers(0, 2, (models // 2, examples), dtype=bool), 2, axis=0)
    mask[::2] = ~mask[::2]
    return rng(seed + 1).normal(3, 2, (models, examples)) * np.arange(1, examples + 1), mask


def kept(values, mask, group, example, groups=GROUPS):
    return values[(groups != group) & mask[:, example], example]


class TestLeaveGroupOut:
    @pytest.mark.parametrize("shrink", [0.0, 8.0])
    def test_agrees_with_a_loop(self, shrink):
        values, mask = table()
        asked = np.array([3, 0, 99])  # 99 is no group of these models: nothing is left out
        fit = leave_group_out(values, mask, GROUPS, asked, shrink, "x")
        for row, group in enumerate(asked):
            parts = [kept(values, mask, group, i) for i in range(7)]
            pooled = sum(((p - p.mean()) ** 2).sum() for p in parts) / sum(len(p) - 1 for p in parts)
            m = np.array([len(p) for p in parts])
            own = np.array([p.var(ddof=1) for p in parts])
            np.testing.assert_array_equal(fit.models[row], m)
            np.testing.assert_allclose(fit.mean[row], [p.mean() for p in parts], rtol=1e-12)
            expected = (shrink * pooled + (m - 1) * own) / (shrink + m - 1)
            np.testing.assert_allclose(fit.variance[row], expected, rtol=1e-10)

    def test_median_agrees_with_a_loop_and_keeps_the_variance(self):
        values, mask = table()
        asked = np.arange(6)
        fit = leave_group_out(values, mask, GROUPS, asked, 8.0, "x", "median")
        expected = [[np.median(kept(values, mask, g, i)) for i in range(7)] for g in asked]
        np.testing.assert_allclose(fit.mean, expected, rtol=1e-12)
        plain = leave_group_out(values, mask, GROUPS, asked, 8.0, "x")
        np.testing.assert_array_equal(fit.variance, plain.variance)

    def test_keeps_its_digits_far_from_zero(self):
        values, mask = table()
        near, far = (leave_group_out(values + c, mask, GROUPS, np.arange(6), 0.0, "x") for c in (0, 1e6))
        np.testing.assert_allclose(far.variance, near.variance, rtol=1e-8)

    @pytest.mark.parametrize("value", [0.1, -7.3, 1e9])
    def test_equal_values_have_a_variance_of_zero_exactly(self, value):
        fit = leave_group_out(np.full((12, 7), value), table()[1], GROUPS, np.arange(6), 0.0, "x")
        assert (fit.variance == 0).all()
        assert (with_floor([fit])[0].variance > 0).all()

    def test_says_which_examples_have_too_few_models(self):
        values, mask = table()
        mask[:, [2, 5]] = False
        mask[[0, 2], 2] = True
        with pytest.raises(InvalidInputError, match=r"at least 2 models that slept .* examples \[2, 5\] .* as 0"):
            leave_group_out(values, mask, GROUPS, np.arange(6), 8.0, "slept")


def test_a_floor_follows_the_unit_of_the_margins():
    values, mask = table()
    values[:, 3] = 1.0
    for scale in (1e-6, 1.0, 1e6):
        fit = with_floor([leave_group_out(values * scale, mask, GROUPS, np.arange(6), 0.0, "x")])[0]
        usual = leave_group_out(values, mask, GROUPS, np.arange(6), 0.0, "x").variance.mean() * scale**2
        np.testing.assert_allclose(fit.variance[:, 3], 1e-6 * usual, rtol=1e-9)


class TestDensities:
    def test_normal_agrees_with_scipy(self):
        values, mask = table()
        fit = leave_group_out(values, mask, GROUPS, np.arange(6), 8.0, "x")
        expected = norm.logpdf(values, fit.mean[GROUPS], np.sqrt(fit.variance[GROUPS]))
        np.testing.assert_allclose(log_normal(values, fit, GROUPS), expected, rtol=1e-12)

    @pytest.mark.parametrize("chunk", [1, 4_000_000])
    def test_kernels_agree_with_a_loop(self, chunk, monkeypatch):
        monkeypatch.setattr("amnesty.evaluation.fits._CHUNK", chunk)
        values, mask = table()
        fit = leave_group_out(values, mask, GROUPS, np.arange(6), 8.0, "x")
        found = log_kernels(values, mask, GROUPS, fit)
        for (m, i), x in np.ndenumerate(values):
            near = kept(values, mask, GROUPS[m], i)
            width = np.sqrt(fit.variance[GROUPS[m], i]) * (4 / 3 / len(near)) ** 0.2
            assert found[m, i] == pytest.approx(np.log(norm.pdf(x, near, width).mean()), rel=1e-10)

    def test_kernels_do_not_underflow(self):
        values, mask = table()
        values[0] = 1e6
        fit = leave_group_out(values, mask, GROUPS, np.arange(6), 0.0, "x")
        assert np.isfinite(log_kernels(values, mask, GROUPS, fit)).all()
