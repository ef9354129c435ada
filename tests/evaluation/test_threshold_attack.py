import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.features import FEATURES
from amnesty.evaluation.threshold_attack import Advantage, matched, membership_advantage, membership_advantages
from amnesty.tasks import Predictions


def rng(seed=0):
    return np.random.default_rng(seed)


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


def gain(*parts, **options):
    """The value alone."""
    return membership_advantage(*parts, **options).value


def sample(mean, n, seed, classes=4, first=0):
    """Scores and labels of n examples."""
    return rng(seed).normal(mean, 1, n), first + np.arange(n) % classes


class TestMembershipAdvantage:
    def test_is_zero_for_what_looks_unseen(self):
        for retained in (0, 3):
            found = [
                gain(sample(0, 500, s), sample(retained, 2000, s + 50), sample(0, 1000, s + 99)) for s in range(8)
            ]
            assert abs(np.mean(found)) < 0.02
            assert np.abs(found).max() < 0.1

    def test_is_near_one_for_what_is_known_by_heart(self):
        assert gain(sample(20, 300, 0), sample(20, 900, 1), sample(0, 600, 2)) > 0.97

    def test_is_negative_for_what_is_over_forgotten(self):
        assert gain(sample(-5, 300, 0), sample(1, 900, 1), sample(0, 600, 2)) < -0.2

    def test_grows_with_what_is_left(self):
        left = [gain(sample(m, 300, 0), sample(4, 900, 1), sample(0, 600, 2)) for m in range(5)]
        assert left == sorted(left)

    def test_follows_the_seed(self):
        parts = sample(1, 100, 0), sample(3, 400, 1), sample(0, 100, 2)
        one, same, other = (gain(*parts, seed=s) for s in (0, 0, 1))
        assert one == same != other
        assert one == pytest.approx(other, abs=0.1)

    def test_does_not_depend_on_order(self):
        parts = sample(1, 300, 0), sample(3, 900, 1), sample(0, 600, 2)
        orders = [rng(7).permutation(len(part[0])) for part in parts]
        shuffled = [(s[order], y[order]) for (s, y), order in zip(parts, orders, strict=True)]
        assert gain(*shuffled) == pytest.approx(gain(*parts), abs=0.03)

    @pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0), (1, 1000), (1e6, -5)])
    def test_does_not_depend_on_the_scale_of_the_scores(self, scale, offset):
        parts = sample(1, 50, 0), sample(3, 100, 1), sample(0, 50, 2)
        changed = [(s * scale + offset, y) for s, y in parts]
        assert gain(*changed) == pytest.approx(gain(*parts), abs=1e-9)

    def test_leaves_numpys_generator_alone(self):
        before = np.random.get_state()[1].tolist()
        gain(sample(0, 50, 0), sample(0, 50, 1), sample(0, 50, 2))
        assert np.random.get_state()[1].tolist() == before

    def test_of_a_whole_class_compares_with_unseen_examples_of_that_class(self):
        """Its margins lie lower than others, whether seen or not: that is the class, not memory."""
        forget = rng(0).normal(-5, 1, 200), np.full(200, 9)
        others, of_class = sample(0, 400, 1), (rng(2).normal(-5, 1, 200), np.full(200, 9))
        unseen = tuple(np.concatenate(both) for both in zip(others, of_class, strict=True))
        assert abs(gain(forget, sample(1, 900, 3), unseen)) < 0.02

    def test_a_partly_forgotten_class_is_compared_like_with_like(self):
        """Class 0 is forgotten altogether and easy, class 1 in part and hard; the model remembers nothing."""

        def two(easy, hard, seed):
            values = np.concatenate([rng(seed).normal(10, 1, easy), rng(seed + 1).normal(0, 1, hard)])
            return values, np.repeat([0, 1], [easy, hard])

        retain = rng(9).normal(2, 1, 600), np.full(600, 1)
        assert abs(gain(two(200, 200, 0), retain, two(300, 300, 20))) < 0.06

    def test_the_threshold_is_found_on_classes_that_retained_and_unseen_examples_share(self):
        """Class 0, forgotten altogether, scores higher than all; class 1 is remembered as if retained."""

        def two(mean, n, seed):
            values = np.concatenate([rng(seed).normal(3, 0.1, 3 * n), rng(seed + 1).normal(mean, 1, n)])
            return values, np.repeat([0, 1], [3 * n, n])

        retain = rng(9).normal(1.5, 1, 900), np.full(900, 1)
        assert gain(two(1.5, 300, 0), retain, two(0, 600, 20)) == pytest.approx(0.547 / 4, abs=0.03)

    def test_forgotten_classes_that_nobody_else_has_are_left_out(self):
        """The forgotten examples of class 7, all known by heart, have no unseen ones to be compared with."""
        plain = sample(0, 400, 0)
        forget = np.append(plain[0], np.full(400, 50.0)), np.append(plain[1], np.full(400, 7))
        assert abs(gain(forget, sample(1, 900, 1), sample(0, 800, 2))) < 0.1

    @pytest.mark.parametrize("odd", [1, 2, 3])
    def test_few_unseen_examples_of_a_forgotten_class_suffice_in_every_draw(self, odd):
        forget = rng(0).normal(0, 1, 50), np.full(50, 9)
        others = sample(0, 100, 1)
        unseen = np.append(others[0], rng(3).normal(0, 1, odd)), np.append(others[1], np.full(odd, 9))
        for seed in range(5):
            assert -1 <= gain(forget, sample(1, 200, 2), unseen, seed) <= 1

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
            gain(forget, retain, unseen)

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_refuses_nan(self, part):
        parts = [sample(0, 40, s) for s in range(3)]
        parts[part][0][:] = math.nan
        with pytest.raises(InvalidInputError, match="NaN"):
            membership_advantage(*parts)


def slow_rate(forget, retain, unseen, threshold_of):
    return np.mean([score >= threshold_of(label) for score, label in zip(*forget, strict=True)])


class TestInterval:
    def test_holds_the_value_and_both_rates(self):
        found = membership_advantage(sample(1, 300, 0), sample(3, 900, 1), sample(0, 600, 2))
        assert isinstance(found, Advantage) and found.draws == 20
        assert -1 <= found.low < found.value < found.high <= 1
        assert found.value == pytest.approx(found.member_rate - found.false_positive_rate)
        assert float(found) == found.value

    def test_contains_zero_where_nothing_is_left(self):
        found = [
            membership_advantage(sample(0, 200, s), sample(2, 300, s + 500), sample(0, 400, s + 900), draws=5)
            for s in range(200)
        ]
        assert np.mean([i.low <= 0 <= i.high for i in found]) > 0.93

    def test_is_wider_with_fewer_examples_and_more_confidence(self):
        def width(n, level):
            i = membership_advantage(sample(1, n, 0), sample(3, n, 1), sample(0, 2 * n, 2), level=level)
            return i.high - i.low

        assert width(100, 0.9) > 2 * width(1000, 0.9) and width(100, 0.99) > width(100, 0.9)

    def test_is_as_wide_as_the_draws_spread(self):
        """Only 4 unseen examples: the threshold hangs on which of them fit it."""
        parts = sample(0, 5000, 0, classes=1), sample(2, 5000, 1, classes=1), sample(0, 4, 2, classes=1)
        found = membership_advantage(*parts, draws=30)
        single = [membership_advantage(*parts, seed=s, draws=1).value for s in range(60)]
        assert found.high - found.low > 1.5 * np.std(single)


class TestThresholdsByClass:
    """Class 0 scores far above class 1, whoever is asked."""

    def parts(self, left):
        def two(mean, n, seed):
            labels = np.arange(n) % 2
            return rng(seed).normal(mean, 1, n) + 30.0 * (labels == 0), labels

        return two(left, 2000, 0), two(3, 4000, 1), two(0, 4000, 2)

    def test_see_what_one_threshold_cannot(self):
        parts = self.parts(3)
        assert gain(*parts, per_class=True) == pytest.approx(0.866, abs=0.03)
        assert gain(*parts) < 0.6

    def test_are_zero_where_nothing_is_left(self):
        assert abs(gain(*self.parts(0), per_class=True)) < 0.03

    def test_of_a_single_class_are_that_of_all(self):
        parts = sample(1, 200, 0, classes=1), sample(2, 300, 1, classes=1), sample(0, 400, 2, classes=1)
        assert membership_advantage(*parts, per_class=True) == membership_advantage(*parts)

    def test_a_class_forgotten_altogether_gets_that_of_all(self):
        """A threshold of 0 for it, as published, would call its scores, all above 0, members."""
        far = rng(0).normal(50, 1, 300), np.full(300, 9)
        others, of_class = sample(0, 400, 1), (rng(2).normal(50, 1, 300), np.full(300, 9))
        unseen = tuple(np.concatenate(both) for both in zip(others, of_class, strict=True))
        assert membership_advantage(far, sample(60, 900, 3), unseen, per_class=True) == membership_advantage(
            far, sample(60, 900, 3), unseen
        )

    def test_are_the_best_of_each_class(self):
        """Against a loop over classes and thresholds, in a draw that leaves no choice: all unseen are alike."""
        labels = np.repeat([0, 1, 2], 8)
        retain = rng(0).normal(1, 1, 24).round(1), labels
        unseen = np.repeat([0.2, 0.5, -0.3], 16), np.repeat([0, 1, 2], 16)
        forget = rng(1).normal(0.5, 1, 24).round(1), labels

        def best(label):
            mine, theirs = retain[0][labels == label], unseen[0][unseen[1] == label]
            tried = np.unique(np.append(mine, theirs))[::-1]
            return tried[np.argmax([(mine >= t).mean() - (theirs >= t).mean() for t in tried])]

        found = membership_advantage(forget, retain, unseen, per_class=True)
        assert found.member_rate == pytest.approx(slow_rate(forget, retain, unseen, best))
        assert found.false_positive_rate == pytest.approx(slow_rate(unseen, retain, unseen, best))


class TestOnAllFeatures:
    def parts(self):
        from tests.evaluation.test_membership import answers

        return answers(2, 300, 0), answers(4, 600, 1), answers(0, 500, 2)

    def test_agrees_with_one_at_a_time(self):
        parts = self.parts()
        from amnesty.evaluation.features import features

        scores = [features(p.logits, p.labels) for p in parts]
        found = membership_advantages(*parts, seed=3)
        assert tuple(found) == FEATURES
        for name, value in found.items():
            single = membership_advantage(
                *[(s[name], p.labels.numpy()) for s, p in zip(scores, parts, strict=True)], 3
            )
            assert value == single
        assert found["confidence"].value == pytest.approx(found["margin"].value, abs=0.01)

    def test_refuses_parts_without_a_common_class(self):
        forget, retain, unseen = self.parts()
        other = Predictions(unseen.logits[unseen.labels == 0], unseen.labels[unseen.labels == 0])
        mine = Predictions(forget.logits[forget.labels == 1], forget.labels[forget.labels == 1])
        with pytest.raises(InvalidInputError, match="same classes"):
            membership_advantages(mine, retain, other, seed=0)


class TestOddInput:
    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_labels_of_another_number_are_refused(self, part):
        parts = [sample(0, 40, s) for s in range(3)]
        parts[part] = parts[part][0], parts[part][1][:-1]
        with pytest.raises(ShapeError, match=f"`{('forget', 'retain', 'unseen')[part]}`"):
            membership_advantage(*parts)

    def test_no_draw_is_refused(self):
        with pytest.raises(InvalidInputError, match="`draws`"):
            membership_advantage(sample(0, 40, 0), sample(0, 40, 1), sample(0, 40, 2), draws=0)

    def test_inputs_stay_as_they_are(self):
        parts = [sample(0, 40, s) for s in range(3)]
        before = [(s.copy(), y.copy()) for s, y in parts]
        membership_advantage(*parts, per_class=True)
        for part, old in zip(parts, before, strict=True):
            np.testing.assert_array_equal(part, old)
