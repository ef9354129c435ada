import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from amnesty.errors import InvalidInputError
from amnesty.evaluation import resampling
from amnesty.evaluation.resampling import hierarchical, hierarchical_auc


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(seeds, examples, seed=0, between=0.2, mean=0.0):
    random = rng(seed)
    return [random.normal(mean + random.normal(0, between), 1, examples) for _ in range(seeds)]


def ends(interval):
    return interval.low, interval.high


def slow(statistic, sides, draws=1500, level=0.95):
    """The hierarchical bootstrap by loops: seeds with replacement, then the examples of each side."""
    random, found = rng(99), []
    for _ in range(draws):
        seeds = random.integers(len(sides), size=len(sides))
        found.append(np.mean([statistic(*(random.choice(x, len(x)) for x in sides[s])) for s in seeds]))
    return tuple(np.quantile(found, [(1 - level) / 2, (1 + level) / 2]))


def by_pairs(members, nonmembers):
    difference = members[:, None] - nonmembers
    return np.mean(difference > 0) + np.mean(difference == 0) / 2


def auc(members, nonmembers):
    truth = np.repeat([1, 0], [len(members), len(nonmembers)])
    return roc_auc_score(truth, np.concatenate([members, nonmembers]))


class TestHierarchical:
    @pytest.mark.parametrize("examples", [20, 150])
    def test_agrees_with_loops(self, examples):
        """Few and many distinct values take different ways."""
        values = normal(5, examples)
        found, expected = hierarchical(values, draws=6000), slow(np.mean, [(x,) for x in values])
        assert found.value == pytest.approx(np.mean([x.mean() for x in values]))
        width = expected[1] - expected[0]
        assert ends(found) == pytest.approx(expected, abs=0.08 * width)

    def test_of_right_and_wrong_answers(self):
        right = [rng(s).random(200 + 50 * s) < 0.9 for s in range(4)]
        found, expected = hierarchical(right, draws=6000), slow(np.mean, [(x,) for x in right])
        assert found.value == pytest.approx(np.mean([x.mean() for x in right]))  # each seed weighs the same
        assert ends(found) == pytest.approx(expected, abs=0.08 * (expected[1] - expected[0]))

    @pytest.mark.parametrize(("between", "examples"), [(3.0, 50), (0.0, 50)])
    def test_counts_both_levels(self, between, examples):
        """Wide where seeds differ, and not of width 0 where they are one model on its examples."""
        values = normal(30, examples, 1, between)
        low, high = ends(hierarchical(values, draws=2000))
        within = np.mean([x.var() for x in values]) / examples
        expected = np.sqrt((np.var([x.mean() for x in values]) + within) / 30)
        assert (high - low) / (2 * 1.96) == pytest.approx(expected, rel=0.08)

    @pytest.mark.parametrize(("seeds", "between", "least", "most"), [(10, 0.2, 0.88, 0.96), (10, 0.02, 0.95, 1.0)])
    def test_covers_the_truth(self, seeds, between, least, most):
        found = [ends(hierarchical(normal(seeds, 60, s, between), draws=150)) for s in range(200)]
        assert least <= np.mean([low <= 0 <= high for low, high in found]) <= most

    @pytest.mark.parametrize("examples", [30, 100])
    def test_order_of_the_examples_changes_nothing(self, examples):
        values = normal(3, examples)
        shuffled = [rng(9).permutation(x) for x in values]
        assert ends(hierarchical(values)) == ends(hierarchical(shuffled))

    def test_follows_its_seed(self):
        values = normal(4, 100)
        one, same, other = (ends(hierarchical(values, seed=s)) for s in (0, 0, 1))
        assert one == same != other
        assert one == pytest.approx(other, abs=0.1)

    def test_moves_with_its_values(self):
        values = normal(4, 100)
        found, moved = hierarchical(values), hierarchical([x + 7 for x in values])
        assert ends(moved) == pytest.approx([end + 7 for end in ends(found)])

    def test_a_higher_level_is_wider(self):
        found = [hierarchical(normal(5, 40), level=level) for level in (0.5, 0.9, 0.99)]
        assert found[2].low < found[1].low < found[0].low < found[0].value < found[0].high < found[1].high

    def test_constant_values_have_no_width(self):
        assert ends(hierarchical([np.ones(9)] * 3)) == (1.0, 1.0)


class TestHierarchicalAuc:
    def test_agrees_with_loops(self):
        members = [np.round(x, 1) for x in normal(4, 40, 0, 0.3, mean=0.5)]  # rounded, so that there are ties
        nonmembers = [np.round(x, 1) for x in normal(4, 60, 1, 0.0)]
        sides = list(zip(members, nonmembers, strict=True))
        found, expected = hierarchical_auc(members, nonmembers, draws=6000), slow(by_pairs, sides)
        assert found.value == pytest.approx(np.mean([auc(*pair) for pair in sides]))
        assert ends(found) == pytest.approx(expected, abs=0.08 * (expected[1] - expected[0]))

    def test_covers_one_half_for_scores_of_one_law(self):
        found = [
            ends(hierarchical_auc(normal(6, 50, s, 0), normal(6, 70, 9999 + s, 0), draws=200)) for s in range(200)
        ]
        assert 0.93 <= np.mean([low <= 0.5 <= high for low, high in found]) <= 1

    def test_each_model_may_have_a_scale_of_its_own(self):
        members, nonmembers = normal(3, 50, 0, mean=1), normal(3, 50, 1)
        changes = [np.exp, lambda x: 5 * x - 100, np.arctan]
        other = [[f(x) for f, x in zip(changes, side, strict=True)] for side in (members, nonmembers)]
        assert hierarchical_auc(members, nonmembers) == hierarchical_auc(*other)

    def test_sides_mirror_each_other(self):
        members, nonmembers = normal(3, 80, 0, mean=1), normal(3, 80, 1)
        one, other = hierarchical_auc(members, nonmembers), hierarchical_auc(nonmembers, members)
        assert one.value == pytest.approx(1 - other.value)
        assert ends(one) == pytest.approx((1 - other.high, 1 - other.low), abs=0.02)

    def test_known_cases(self):
        apart = hierarchical_auc([np.array([2.0, 3.0])] * 2, [np.array([0.0, 1.0])] * 2)
        assert (apart.value, *ends(apart)) == (1, 1, 1)
        same = hierarchical_auc([np.ones(4)] * 2, [np.ones(7)] * 2)
        assert (same.value, *ends(same)) == (0.5, 0.5, 0.5)
        endless = hierarchical_auc([np.array([np.inf])] * 2, [np.array([-np.inf, 0.0])] * 2)
        assert endless.value == 1

    def test_is_the_same_in_small_parts(self, monkeypatch):
        """Parts bound the memory; they draw the same laws in another order, so the ends agree but nearly."""
        members, nonmembers = normal(3, 50, 0, mean=0.5), normal(3, 50, 1)
        whole = hierarchical_auc(members, nonmembers, draws=3000)
        monkeypatch.setattr(resampling, "AT_ONCE", 700)
        assert ends(hierarchical_auc(members, nonmembers, draws=3000)) == pytest.approx(ends(whole), abs=0.015)

    def test_leaves_numpys_generator_and_its_input_alone(self):
        members, nonmembers = normal(2, 50, 0), normal(2, 50, 1)
        kept, before = [x.copy() for x in members], np.random.get_state()[1].tolist()
        hierarchical_auc(members, nonmembers)
        assert np.random.get_state()[1].tolist() == before
        assert all((x == y).all() for x, y in zip(members, kept, strict=True))


class TestBadInput:
    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ([], "at least two seeds, found 0"),
            ([np.ones(5)], "at least two seeds, found 1; for one model take an interval over its examples"),
            ([np.ones(5), np.ones(0)], r"`values\[1\]` must hold one number per example, but has shape \[0\]"),
            (
                [np.ones((5, 2)), np.ones(5)],
                r"`values\[0\]` must hold one number per example, but has shape \[5, 2\]",
            ),
            ([np.ones(5), np.array([1.0, np.nan])], r"`values\[1\]` holds NaN"),
            ([np.ones(5), np.array([1.0, np.inf])], r"`values\[1\]` holds NaN or infinite"),
        ],
    )
    def test_values_are_refused(self, values, reason):
        with pytest.raises(InvalidInputError, match=reason):
            hierarchical(values)

    def test_scores_are_refused(self):
        two = [np.ones(5), np.zeros(5)]
        with pytest.raises(InvalidInputError, match="`members` has 2 seeds and `nonmembers` 3"):
            hierarchical_auc(two, [*two, np.ones(5)])
        with pytest.raises(InvalidInputError, match=r"`nonmembers\[0\]` holds NaN"):
            hierarchical_auc(two, [np.array([np.nan]), np.ones(5)])

    def test_a_wrong_level_is_refused(self):
        with pytest.raises(InvalidInputError, match="A level must lie"):
            hierarchical([np.ones(5), np.zeros(5)], level=95)
