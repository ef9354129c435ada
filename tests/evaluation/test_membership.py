import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from amnesty.errors import InvalidInputError
from amnesty.evaluation import auc, margins, matched, membership_advantage, threshold_scan

scores = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=30).map(
    np.array
)


def rng(seed=0):
    return np.random.default_rng(seed)


class TestMargins:
    def test_are_log_odds_in_float64(self):
        logits, labels = torch.randn(200, 10), torch.arange(200) % 10
        p = logits.double().softmax(dim=1)[torch.arange(200), labels]
        found = margins(logits, labels)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, (p / (1 - p)).log(), rtol=1e-9)

    def test_do_not_saturate(self):
        logits = torch.tensor([[z, 0.0, 0.0] for z in (17.0, 40.0, 1e3, 1e30, -1e30)])
        expected = logits[:, 0].double().numpy() - math.log(2)
        np.testing.assert_allclose(margins(logits, torch.zeros(5, dtype=torch.int64)), expected, rtol=1e-12)


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


@pytest.mark.parametrize("measure", [auc, threshold_scan])
class TestBadScores:
    def test_no_example_is_refused(self, measure):
        for sides in [([], [1.0]), ([1.0], [])]:
            with pytest.raises(InvalidInputError, match="needs members and non-members"):
                measure(*map(np.array, sides))

    def test_nan_is_refused(self, measure):
        for sides in [([math.nan], [1.0]), ([1.0], [0.0, math.nan])]:
            with pytest.raises(InvalidInputError, match="NaN"):
                measure(*map(np.array, sides))


class TestMatched:
    @given(
        st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array),
        st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array),
    )
    def test_is_a_sorted_part_of_the_pool_of_wanted_classes(self, labels, pool):
        found = matched(labels, pool, rng())
        assert (np.diff(found) > 0).all()
        assert set(pool[found]) == set(labels) & set(pool)

    @pytest.mark.parametrize(
        ("wanted", "pool", "expected"),
        [
            ([10, 10, 10], [30, 50, 90], [30, 30, 30]),
            ([20, 10, 0], [30, 50, 90], [30, 15, 0]),
            ([9, 3, 3], [7, 99, 99], [7, 2, 2]),
            ([49, 49, 49], [29, 29, 29], [29, 29, 29]),  # 29 / 49 * 49 is less than 29 in floats
            ([10, 10, 10], [30, 0, 20], [20, 0, 20]),
            ([100, 100, 1], [10, 10, 10], [10, 10, 1]),  # no class is left out for being rare
            ([1, 0, 0], [0, 5, 5], [0, 0, 0]),
        ],
    )
    def test_keeps_the_class_shares(self, wanted, pool, expected):
        labels, of_pool = (rng().permutation(np.repeat(range(3), counts)) for counts in (wanted, pool))
        found = matched(labels, of_pool, rng())
        assert np.bincount(of_pool[found], minlength=3).tolist() == expected

    def test_draws_with_its_generator(self):
        pool = np.append(np.repeat([0, 1], 50), [2])
        one, same, other = (matched(np.array([0, 0, 2]), pool, rng(s)).tolist() for s in (0, 0, 1))
        assert one == same != other


def sample(mean, n, seed, classes=4, first=0):
    """Scores and labels of n examples."""
    return rng(seed).normal(mean, 1, n), first + np.arange(n) % classes


class TestMembershipAdvantage:
    def test_is_zero_for_what_looks_unseen(self):
        for retained in (0, 3):
            found = [
                membership_advantage(sample(0, 500, s), sample(retained, 2000, s + 50), sample(0, 1000, s + 99))
                for s in range(8)
            ]
            assert abs(np.mean(found)) < 0.02
            assert np.abs(found).max() < 0.1

    def test_is_near_one_for_what_is_known_by_heart(self):
        assert membership_advantage(sample(20, 300, 0), sample(20, 900, 1), sample(0, 600, 2)) > 0.97

    def test_is_negative_for_what_is_over_forgotten(self):
        assert membership_advantage(sample(-5, 300, 0), sample(1, 900, 1), sample(0, 600, 2)) < -0.2

    def test_grows_with_what_is_left(self):
        left = [membership_advantage(sample(m, 300, 0), sample(4, 900, 1), sample(0, 600, 2)) for m in range(5)]
        assert left == sorted(left)

    def test_follows_the_seed(self):
        parts = sample(1, 100, 0), sample(3, 400, 1), sample(0, 100, 2)
        one, same, other = (membership_advantage(*parts, seed=s) for s in (0, 0, 1))
        assert one == same != other
        assert one == pytest.approx(other, abs=0.1)

    def test_does_not_depend_on_order(self):
        parts = sample(1, 300, 0), sample(3, 900, 1), sample(0, 600, 2)
        orders = [rng(7).permutation(len(part[0])) for part in parts]
        shuffled = [(s[order], y[order]) for (s, y), order in zip(parts, orders, strict=True)]
        assert membership_advantage(*shuffled) == pytest.approx(membership_advantage(*parts), abs=0.03)

    @pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0), (1, 1000), (1e6, -5)])
    def test_does_not_depend_on_the_scale_of_the_scores(self, scale, offset):
        parts = sample(1, 50, 0), sample(3, 100, 1), sample(0, 50, 2)
        changed = [(s * scale + offset, y) for s, y in parts]
        assert membership_advantage(*changed) == pytest.approx(membership_advantage(*parts), abs=1e-9)

    def test_leaves_numpys_generator_alone(self):
        before = np.random.get_state()[1].tolist()
        membership_advantage(sample(0, 50, 0), sample(0, 50, 1), sample(0, 50, 2))
        assert np.random.get_state()[1].tolist() == before

    def test_of_a_whole_class_compares_with_unseen_examples_of_that_class(self):
        """Its margins lie lower than others, whether seen or not: that is the class, not memory."""
        forget = rng(0).normal(-5, 1, 200), np.full(200, 9)
        others, of_class = sample(0, 400, 1), (rng(2).normal(-5, 1, 200), np.full(200, 9))
        unseen = tuple(np.concatenate(both) for both in zip(others, of_class, strict=True))
        assert abs(membership_advantage(forget, sample(1, 900, 3), unseen)) < 0.02

    def test_a_partly_forgotten_class_is_compared_like_with_like(self):
        """Class 0 is forgotten altogether and easy, class 1 in part and hard; the model remembers nothing."""

        def two(easy, hard, seed):
            values = np.concatenate([rng(seed).normal(10, 1, easy), rng(seed + 1).normal(0, 1, hard)])
            return values, np.repeat([0, 1], [easy, hard])

        retain = rng(9).normal(2, 1, 600), np.full(600, 1)
        assert abs(membership_advantage(two(200, 200, 0), retain, two(300, 300, 20))) < 0.06

    def test_the_threshold_is_found_on_classes_that_retained_and_unseen_examples_share(self):
        """Class 0, forgotten altogether, scores higher than all; class 1 is remembered as if retained."""

        def two(mean, n, seed):
            values = np.concatenate([rng(seed).normal(3, 0.1, 3 * n), rng(seed + 1).normal(mean, 1, n)])
            return values, np.repeat([0, 1], [3 * n, n])

        retain = rng(9).normal(1.5, 1, 900), np.full(900, 1)
        assert membership_advantage(two(1.5, 300, 0), retain, two(0, 600, 20)) == pytest.approx(0.547 / 4, abs=0.03)

    def test_forgotten_classes_that_nobody_else_has_are_left_out(self):
        """The forgotten examples of class 7, all known by heart, have no unseen ones to be compared with."""
        plain = sample(0, 400, 0)
        forget = np.append(plain[0], np.full(400, 50.0)), np.append(plain[1], np.full(400, 7))
        assert abs(membership_advantage(forget, sample(1, 900, 1), sample(0, 800, 2))) < 0.1

    @pytest.mark.parametrize("odd", [1, 2, 3])
    def test_few_unseen_examples_of_a_forgotten_class_suffice_in_every_draw(self, odd):
        forget = rng(0).normal(0, 1, 50), np.full(50, 9)
        others = sample(0, 100, 1)
        unseen = np.append(others[0], rng(3).normal(0, 1, odd)), np.append(others[1], np.full(odd, 9))
        for seed in range(5):
            assert -1 <= membership_advantage(forget, sample(1, 200, 2), unseen, seed) <= 1

    @pytest.mark.parametrize(
        ("forget", "retain", "unseen"),
        [
            (sample(0, 9, 0), sample(0, 9, 1), sample(0, 0, 2)),
            (sample(0, 9, 0), sample(0, 0, 1), sample(0, 9, 2)),
            (sample(0, 0, 0), sample(0, 9, 1), sample(0, 9, 2)),
            (sample(0, 9, 0, first=20), sample(0, 9, 1), sample(0, 9, 2)),
            (sample(0, 9, 0), sample(0, 9, 1, first=20), sample(0, 9, 2)),
            (sample(0, 9, 0, classes=1), sample(0, 9, 1, classes=1), sample(0, 1, 2)),
        ],
        ids=["no unseen", "no retained", "no forgotten", "other classes", "no common class", "one unseen"],
    )
    def test_refuses_what_cannot_be_compared(self, forget, retain, unseen):
        with pytest.raises(InvalidInputError, match="members and non-members of the same classes"):
            membership_advantage(forget, retain, unseen)

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_refuses_nan(self, part):
        parts = [sample(0, 40, s) for s in range(3)]
        parts[part][0][:] = math.nan
        with pytest.raises(InvalidInputError, match="NaN"):
            membership_advantage(*parts)
