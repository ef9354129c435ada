import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.pooled import pooled_auc

tables = arrays(np.float64, (4, 5), elements=st.integers(-3, 3).map(float))
GROUPS = np.array([0, 0, 1, 1])


def rng(seed=0):
    return np.random.default_rng(seed)


def by_loop(inside, outside, rows, columns, cross_fitted):
    wins = pairs = 0
    for (m, i), x in np.ndenumerate(inside):
        for (k, j), y in np.ndenumerate(outside):
            if np.isnan(x) or np.isnan(y) or (cross_fitted and i == j and rows[m] != columns[k]):
                continue
            pairs += 1
            wins += (x > y) + (x == y) / 2
    return wins / pairs


class TestValue:
    @given(tables, tables, st.integers(0, 999), st.booleans())
    def test_agrees_with_a_loop_over_all_pairs(self, inside, outside, seed, cross_fitted):
        inside[rng(seed).random(inside.shape) < 0.3] = np.nan
        inside[0, 0], outside[0, 0] = 4.0, 5.0
        columns = np.array([7, 0, 1, 7])
        found = pooled_auc(inside, outside, GROUPS, columns, cross_fitted=cross_fitted, seed=0)
        assert found.value == pytest.approx(by_loop(inside, outside, GROUPS, columns, cross_fitted), abs=1e-12)
        assert (found.inside, found.outside) == ((~np.isnan(inside)).sum(), 20)

    def test_agrees_with_scikit_learn_where_all_pairs_count(self):
        inside, outside = rng(0).normal(0.4, 1, (6, 30)), rng(1).normal(0, 1, (6, 30))
        found = pooled_auc(inside, outside, np.arange(6), np.arange(6), cross_fitted=False, seed=0)
        truth = np.repeat([1, 0], 180)
        assert found.value == pytest.approx(roc_auc_score(truth, np.append(inside, outside)), abs=1e-12)

    def test_does_not_depend_on_the_order_of_models_and_examples_or_on_the_names_of_groups(self):
        inside, outside, groups = rng(0).normal(0.4, 1, (8, 9)), rng(1).normal(0, 1, (8, 9)), np.arange(8) // 2
        rows, columns, examples = (rng(s).permutation(k) for s, k in ((2, 8), (3, 8), (4, 9)))
        plain = pooled_auc(inside, outside, groups, groups, seed=0)
        mixed = pooled_auc(
            inside[rows][:, examples],
            outside[columns][:, examples],
            groups[rows] * 10 - 5,
            groups[columns] * 10 - 5,
            seed=0,
        )
        assert mixed == plain


class TestInterval:
    def test_is_that_of_resampling_whole_groups(self):
        """Against the slow way: the scores of the drawn groups are put together and compared anew."""
        groups = np.arange(12)
        level_of_model = rng(9).normal(0, 1, (12, 1))
        inside, outside = rng(0).normal(1, 1, (12, 7)) + level_of_model, rng(1).normal(0, 1, (12, 7)) + level_of_model
        found = pooled_auc(inside, outside, groups, groups, cross_fitted=False, draws=4000, seed=0)
        random, values = rng(5), []
        for _ in range(1500):
            take = random.integers(0, 12, 12)
            values.append((inside[take].reshape(-1, 1) > outside[take].ravel()).mean())
        # Student's law with 11 degrees, and 11 / 12 of the variance: a tail of 0.0107 in place of 0.025.
        expected = np.quantile(values, [0.0107, 1 - 0.0107])
        assert [found.low, found.high] == pytest.approx(expected, abs=0.02)

    @pytest.mark.parametrize(("spread", "count"), [(0.0, 16), (1.0, 16), (1.0, 8)])
    def test_holds_the_truth_as_often_as_it_says(self, spread, count):
        """Independent models, each with a level of its own on both sides."""

        def study(seed):
            level_of_side = spread * rng(seed + 5000).normal(size=(2, count, 1))
            inside, outside = rng(seed).normal(size=(2, count, 20)) + level_of_side
            groups = np.arange(count)
            return pooled_auc(inside, outside, groups, groups, cross_fitted=False, draws=300, seed=seed)

        found = [study(seed) for seed in range(200)]
        held = np.mean([f.low <= 0.5 <= f.high for f in found])
        assert 0.90 <= held <= 0.99

    def test_one_that_ignores_models_would_be_far_too_narrow(self):
        groups, of_example = np.arange(20), np.arange(20 * 50)
        inside, outside = rng(0).normal(size=(2, 20, 50)) + rng(1).normal(size=(2, 20, 1))
        by_model = pooled_auc(inside, outside, groups, groups, cross_fitted=False, seed=0)
        flat = (inside.reshape(-1, 1), outside.reshape(-1, 1))
        by_score = pooled_auc(*flat, of_example, of_example, cross_fitted=False, seed=0)
        assert by_model.high - by_model.low > 3 * (by_score.high - by_score.low)

    def test_is_wider_for_cross_fitted_scores(self):
        inside, outside, groups = rng(0).normal(0.3, 1, (8, 400)), rng(1).normal(0, 1, (8, 400)), np.arange(8)
        wide, narrow = (pooled_auc(inside, outside, groups, groups, cross_fitted=c, seed=0) for c in (True, False))
        assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2**0.5, abs=0.03)

    def test_grows_with_the_level_and_follows_the_seed(self):
        inside, outside, groups = *rng(0).normal(size=(2, 8, 9)), np.arange(8)
        one, same, other, narrow = (
            pooled_auc(inside, outside, groups, groups, level=level, seed=seed)
            for level, seed in ((0.95, 0), (0.95, 0), (0.95, 1), (0.5, 0))
        )
        assert one == same != other
        assert one.low < narrow.low < narrow.high < one.high

    def test_models_without_scores_are_no_part_of_it(self):
        inside, outside, groups = *rng(0).normal(size=(2, 8, 9)), np.arange(8)
        more = np.vstack([inside, np.full((1, 9), np.nan)]), np.append(groups, 8)
        plain = pooled_auc(inside, outside, groups, groups, seed=0)
        assert pooled_auc(more[0], outside, more[1], groups, seed=0) == plain
        assert plain.groups == 8

    def test_stays_between_0_and_1(self):
        inside, outside, groups = *rng(0).normal(size=(2, 6, 2)), np.arange(6)
        found = pooled_auc(inside + 1, outside, groups, groups, seed=0)
        assert 0 <= found.low <= found.value <= found.high <= 1

    def test_of_few_groups_is_not_given(self):
        """It would hold the truth too seldom, however wide."""
        inside, outside = rng(0).normal(size=(2, 8, 9))
        for count in (1, 4, 5):
            groups = np.arange(8) % count
            found = pooled_auc(inside, outside, groups, groups, seed=0)
            assert (found.low is None, found.high is None, found.groups) == (count < 5, count < 5, count)


class TestBadInput:
    def test_is_refused_with_the_reason(self):
        good, nan = np.arange(20.0).reshape(4, 5), np.full((4, 5), np.nan)
        for sides, groups, message in [
            ((good, nan), GROUPS, "one side has none"),
            ((good * 0, good * 0), GROUPS, "not all equal"),
            ((good, np.where(good > 18, np.inf, good)), GROUPS, "finite"),
            ((good[:, :1], good[:, :1] + 1), np.array([[0, 0, 1, 1], [2, 2, 3, 3]]), "No two scores"),
        ]:
            both = groups if groups.ndim == 2 else (groups, groups)
            with pytest.raises(InvalidInputError, match=message):
                pooled_auc(*sides, *both, seed=0)
        with pytest.raises(InvalidInputError, match="level"):
            pooled_auc(good, good, GROUPS, GROUPS, level=95, seed=0)

    def test_of_other_shapes_is_refused(self):
        good = np.arange(20.0).reshape(4, 5)
        for sides, groups, message in [
            ((good, good[:, :4]), GROUPS, "column per example"),
            ((good[0], good), GROUPS, "models, examples"),
            ((good, good), GROUPS[:3], "group of each model"),
            ((good, good), GROUPS / 2, "group of each model"),
        ]:
            with pytest.raises(ShapeError, match=message):
                pooled_auc(*sides, groups, groups, seed=0)
