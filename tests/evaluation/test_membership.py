import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.curves import roc
from amnesty.evaluation.features import FEATURES, features
from amnesty.evaluation.intervals import auc_interval, clopper_pearson
from amnesty.evaluation.membership import (
    matched_features,
    membership_test,
    membership_tests,
    strongest,
    usable_rates,
)
from amnesty.tasks import Predictions

scores = st.lists(st.integers(-5, 5).map(float), min_size=100, max_size=130).map(np.array)


def rng(seed=0):
    return np.random.default_rng(seed)


def answers(mean, n, seed, classes=4, first=0):
    """Answers of a model whose logit of the label is shifted by ``mean``; some are wrong."""
    draw = torch.Generator().manual_seed(seed)
    labels = first + torch.arange(n) % classes
    logits = torch.randn(n, first + classes, generator=draw)
    logits[torch.arange(n), labels] += mean
    return Predictions(logits, labels)


class TestMembershipTest:
    def test_of_two_normal_laws(self):
        found = membership_test(rng(0).normal(1, 1, 50_000), rng(1).normal(0, 1, 50_000))
        assert found.auc.value == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.005)
        for rate in (0.01, 0.001):
            assert found.remembered[rate].value == pytest.approx(norm.sf(norm.isf(rate) - 1), abs=0.25 * rate**0.5)
            assert found.over_forgotten[rate].value < rate / 2
        assert found.ks == pytest.approx(2 * norm.cdf(0.5) - 1, abs=0.01)
        assert (found.members, found.nonmembers, found.feature, found.level) == (50_000, 50_000, "margin", 0.95)

    def test_intervals_of_equal_laws_hold_chance(self):
        """0.5 and the false positive rate, in about 95 of 100 samples."""
        found = [
            membership_test(rng(s).normal(0, 1, 300), rng(s + 1000).normal(0, 1, 20_000), rates=[0.01])
            for s in range(200)
        ]
        assert 0.91 <= np.mean([t.auc.low <= 0.5 <= t.auc.high for t in found]) <= 0.985
        for side in ("remembered", "over_forgotten"):
            rates = [getattr(t, side)[0.01] for t in found]
            assert np.mean([i.low <= 0.01 <= i.high for i in rates]) > 0.93

    def test_a_memorised_set_is_found_out(self):
        found = membership_test(rng(0).normal(50, 1, 400), rng(1).normal(0, 1, 1000), rates=[0.01])
        assert (found.auc.value, found.ks, found.remembered[0.01].value) == (1, 1, 1)
        assert found.over_forgotten[0.01].value == 0
        assert found.remembered[0.01].low > 0.99 and 0.98 < found.auc.low < 1

    def test_an_over_forgotten_set_is_its_mirror(self):
        members, nonmembers = rng(0).normal(-1, 1, 500), rng(1).normal(0, 1, 1000)
        found = membership_test(members, nonmembers, rates=[0.01])
        mirrored = membership_test(-members, -nonmembers, rates=[0.01])
        assert found.auc.value < 0.3
        assert found.over_forgotten == mirrored.remembered and found.remembered == mirrored.over_forgotten
        assert found.ks == pytest.approx(mirrored.ks)

    @given(scores, scores, st.integers(0, 99))
    @settings(max_examples=40)
    def test_reads_order_only(self, members, nonmembers, seed):
        members = np.append(members, 9.0)  # so that not all are equal
        found = membership_test(members, nonmembers, rates=[0.1])
        changed = [np.exp(rng(seed).permutation(side)) - 7 for side in (members, nonmembers)]
        assert membership_test(*changed, rates=[0.1]) == found

    @given(scores, scores)
    @settings(max_examples=40)
    def test_is_made_of_its_parts(self, members, nonmembers):
        members = np.append(members, 9.0)
        found = membership_test(members, nonmembers, rates=[0.1], level=0.9)
        assert found.auc == auc_interval(members, nonmembers, 0.9)
        highest = np.sort(nonmembers)[::-1][int(0.1 * len(nonmembers))]
        lowest = np.sort(nonmembers)[int(0.1 * len(nonmembers))]
        assert found.remembered[0.1] == clopper_pearson(int((members > highest).sum()), len(members), 0.9)
        assert found.over_forgotten[0.1] == clopper_pearson(int((members < lowest).sum()), len(members), 0.9)
        assert found.ks == roc(members, nonmembers).ks

    @pytest.mark.parametrize(("rate", "count"), [(0.1, 99), (0.01, 999), (0.001, 9_999)])
    def test_a_rate_that_too_few_examples_can_show_is_refused(self, rate, count):
        assert rate not in usable_rates(count) and rate in usable_rates(count + 1)
        with pytest.raises(InvalidInputError, match=f"at least {count + 1:,} non-members"):
            membership_test(np.arange(50.0), np.arange(float(count)), rates=[rate])
        membership_test(np.arange(50.0), np.arange(count + 1.0), rates=[rate])

    @pytest.mark.parametrize("rate", [0, 1, 1.5, -0.1, math.nan])
    def test_a_rate_out_of_range_is_refused(self, rate):
        with pytest.raises(InvalidInputError, match="between 0 and 1"):
            membership_test(np.arange(50.0), np.arange(500.0), rates=[rate])

    def test_constant_scores_are_refused_unless_they_are_verdicts(self):
        with pytest.raises(InvalidInputError, match=r"All 300 scores \(entropy\) equal 1"):
            membership_test(np.ones(100), np.ones(200), feature="entropy", rates=[])
        assert membership_test(np.ones(100), np.ones(200), feature="correctness", rates=[]).auc.value == 0.5

    def test_odd_scores_are_refused(self):
        for sides, match in [
            (([], [1.0]), "members and non-members"),
            (([math.nan], [1.0]), "NaN"),
            (([[1.0]], [1.0]), "one score"),
        ]:
            with pytest.raises(InvalidInputError, match=match):
                membership_test(*map(np.array, sides), rates=[])


class TestMembershipTests:
    def test_are_those_of_the_matched_features(self):
        forget, unseen = answers(2, 300, 0), answers(0, 700, 1)
        found = membership_tests(forget, unseen, seed=4)
        members, nonmembers = matched_features(forget, unseen, seed=4)
        assert tuple(found) == FEATURES
        for name, test in found.items():
            assert test == membership_test(members[name], nonmembers[name], feature=name, rates=[0.1])
            assert test.auc.value > 0.6
        assert found["confidence"].auc == found["margin"].auc

    def test_compare_like_with_like(self):
        """Class 0 is easy and makes up most of the forget set, but little of the unseen; nothing is remembered."""

        def two(easy, hard, seed):
            part = answers(0, easy + hard, seed, classes=2)
            labels = torch.arange(easy + hard).ge(easy).long()
            part.logits[:easy, 0] += 8
            return Predictions(part.logits, labels)

        found = membership_tests(two(450, 50, 0), two(400, 1600, 1), seed=0)["margin"]
        assert found.auc.low < 0.5 < found.auc.high and found.nonmembers == 444

    def test_leave_out_classes_without_unseen_examples(self):
        forget, unseen = answers(0, 400, 0, classes=5), answers(0, 400, 1, classes=4)
        unseen = Predictions(torch.nn.functional.pad(unseen.logits, (0, 1)), unseen.labels)
        assert membership_tests(forget, unseen, seed=0)["margin"].members == 320

    def test_leave_out_a_correctness_that_is_one(self):
        found = membership_tests(answers(90, 200, 0), answers(50, 200, 1), seed=0)
        assert tuple(found) == FEATURES[1:] and found["margin"].auc.value == 1

    def test_ask_for_the_rates_that_can_be_shown(self):
        for n, rates in [(80, ()), (1000, (0.1, 0.01))]:
            assert tuple(membership_tests(answers(0, 60, 0), answers(0, n, 1), seed=0)["margin"].remembered) == rates
        with pytest.raises(InvalidInputError, match="non-members"):
            membership_tests(answers(0, 60, 0), answers(0, 80, 1), seed=0, rates=[0.1])

    def test_follow_the_seed_and_leave_numpys_generator_alone(self):
        before = np.random.get_state()[1].tolist()
        parts = answers(0, 300, 0, classes=3), answers(0, 300, 1)
        parts = Predictions(torch.nn.functional.pad(parts[0].logits, (0, 1)), parts[0].labels), parts[1]
        parts = Predictions(parts[0].logits[:50], parts[0].labels[:50]), parts[1]
        one, same, other = (membership_tests(*parts, seed=s)["margin"] for s in (0, 0, 1))
        assert one == same != other
        assert np.random.get_state()[1].tolist() == before

    def test_refuse_what_cannot_be_compared(self):
        with pytest.raises(ShapeError, match="one model"):
            membership_tests(answers(0, 60, 0, classes=3), answers(0, 60, 1, classes=4), seed=0)
        both = answers(0, 60, 1)
        forget, unseen = (Predictions(both.logits[w], both.labels[w]) for w in (both.labels > 1, both.labels < 2))
        with pytest.raises(InvalidInputError, match="same classes"):
            membership_tests(forget, unseen, seed=0)


class TestStrongest:
    def noise(self, seed, shift=0.0, n=80):
        """Four features, two of them all but the same."""
        draw = rng(seed)
        base = {"a": draw.normal(0, 1, 2 * n), "b": draw.normal(0, 1, 2 * n), "d": draw.integers(0, 2, 2 * n) * 1.0}
        base["c"] = base["b"] + 0.01 * draw.normal(0, 1, 2 * n)
        base["b"][:n] += shift
        return {k: v[:n] for k, v in base.items()}, {k: v[n:] for k, v in base.items()}

    def test_a_maximum_over_attacks_is_no_finding(self):
        """p-values of noise are uniform: below 0.1 in about a tenth of the samples, though all AUCs are above 0.5."""
        found = [strongest(*self.noise(s), seed=s, permutations=99) for s in range(200)]
        assert 0.04 < np.mean([f.p_value <= 0.1 for f in found]) < 0.17
        assert 0.01 < np.mean([f.auc > f.null_95 for f in found]) < 0.1
        assert min(f.auc for f in found) > 0.5

    @pytest.mark.parametrize(("shift", "orientation"), [(1.5, "remembered"), (-1.5, "over-forgotten")])
    def test_finds_the_attack_that_works(self, shift, orientation):
        members, nonmembers = self.noise(0, shift)
        found = strongest(members, nonmembers, seed=0, permutations=199)
        assert (found.feature, found.orientation, found.p_value) == ("b", orientation, 1 / 200)
        expected = roc(members["b"], nonmembers["b"]).auc
        assert found.auc == pytest.approx(max(expected, 1 - expected)) and found.auc > found.null_95 > 0.5

    def test_null_agrees_with_a_plain_loop(self):
        members, nonmembers = self.noise(3, n=25)
        null = []
        for s in range(600):
            order = rng(s).permutation(50)
            areas = [roc(*np.split(np.append(members[k], nonmembers[k])[order], 2)).auc for k in members]
            null.append(max(abs(a - 0.5) for a in areas))
        found = strongest(members, nonmembers, seed=1, permutations=3000)
        assert found.null_95 == pytest.approx(0.5 + np.quantile(null, 0.95), abs=0.015)
        assert found.p_value == pytest.approx(np.mean(np.array(null) >= found.auc - 0.5), abs=0.06)

    def test_follows_the_seed(self):
        one, same, other = (strongest(*self.noise(0), seed=s, permutations=99) for s in (0, 0, 1))
        assert one == same != other and one.auc == other.auc

    def test_takes_the_features_of_two_parts(self):
        found = strongest(*matched_features(answers(2, 200, 0), answers(0, 200, 1), seed=0), seed=0, permutations=99)
        assert found.orientation == "remembered" and found.p_value == 0.01

    def test_odd_input_is_refused(self):
        members, nonmembers = self.noise(0)
        for sides, options, match in [
            (({}, {}), {}, "same features"),
            ((members, {"a": nonmembers["a"]}), {}, "same features"),
            ((members | {"a": members["a"][:-1]}, nonmembers), {}, "same examples"),
            ((members | {"a": members["a"] * math.nan}, nonmembers), {}, "NaN"),
            ((members, nonmembers), {"permutations": 18}, "at least 19"),
        ]:
            with pytest.raises(InvalidInputError, match=match):
                strongest(*sides, seed=0, **options)


def test_scores_of_float32_answers_lose_nothing():
    """Margins beyond 17, where float32 confidences are all 1, still tell the two apart."""
    forget, unseen = answers(60, 200, 0), answers(40, 200, 1)
    assert (forget.logits.softmax(1).gather(1, forget.labels[:, None]) == 1).all()
    assert membership_tests(forget, unseen, seed=0)["confidence"].auc.value == 1
    assert features(forget.logits, forget.labels)["confidence"].max() < 0


def test_the_choice_of_unseen_examples_does_not_hang_on_their_order():
    draw = torch.Generator().manual_seed(0)
    sides = [
        Predictions(torch.randn(n, 4, generator=draw), torch.randint(0, 4, (n,), generator=draw)) for n in (40, 90)
    ]
    order = torch.randperm(90, generator=draw)
    shuffled = Predictions(sides[1].logits[order], sides[1].labels[order])
    one, other = (matched_features(sides[0], unseen, seed=0)[1] for unseen in (sides[1], shuffled))
    for name, values in one.items():
        np.testing.assert_array_equal(np.sort(values), np.sort(other[name]))
