import pytest

from amnesty.evaluation.findings import findings


def interval(key, value, half):
    return {key: value, f"{key}_low": value - half, f"{key}_high": value + half}


def membership(value, half, before, half_before, **more):
    original = {
        "membership_auc_original": before,
        "membership_auc_original_low": before - half_before,
        "membership_auc_original_high": before + half_before,
    }
    return interval("membership_auc", value, half) | original | more


def answer(scores, question):
    return next(found.answer for found in findings(scores) if found.question == question)


class TestMembership:
    @pytest.mark.parametrize(
        ("value", "half", "says"),
        [
            (0.90, 0.02, "remembered"),
            (0.65, 0.02, "remembered"),
            (0.50, 0.02, "not detected"),
            (0.53, 0.02, "not detected"),
            (0.50, 0.20, "inconclusive"),  # too few examples to tell
            (0.56, 0.05, "inconclusive"),  # some may be left
            (0.30, 0.05, "over-forgotten"),
        ],
    )
    def test_is_judged_by_the_share_of_the_original_s_signal(self, value, half, says):
        assert answer(membership(value, half, 0.9, 0.02), "membership") == says

    @pytest.mark.parametrize("before", [0.53, 0.50, 0.45])
    def test_is_never_passed_where_the_original_is_not_detected(self, before):
        """Ordinary digits: an AUC of 0.53 even before unlearning."""
        assert answer(membership(0.5, 0.001, before, 0.06), "membership") == "inconclusive"

    def test_over_forgetting_stands_out_by_itself(self):
        assert answer(membership(0.3, 0.05, 0.53, 0.06), "membership") == "over-forgotten"

    def test_a_retrained_model_takes_the_place_of_the_coin(self):
        """As where unseen examples differ from the forgotten ones in some other way."""
        scores = membership(0.65, 0.01, 0.9, 0.02)
        assert answer(scores, "membership") == "remembered"
        for reference, says in ((0.65, "not detected"), (0.8, "over-forgotten")):
            assert answer(scores | interval("membership_auc_reference", reference, 0.02), "membership") == says

    def test_a_retrained_model_that_is_only_noisy_does_not(self):
        scores = membership(0.55, 0.06, 0.9, 0.02)
        assert answer(scores, "membership") == answer(
            scores | interval("membership_auc_reference", 0.44, 0.1), "membership"
        )

    def test_nothing_is_said_without_the_original(self):
        assert findings(interval("membership_auc", 0.5, 0.01)) == ()

    def test_without_an_interval_nothing_is_sure(self):
        bare = {"membership_auc": 0.52, "membership_auc_original": 0.8}
        assert answer(bare, "membership") == "inconclusive"
        assert answer(membership(0.52, 0.01, 0.9, 0.02) | bare, "membership") == "not detected"
        scores = membership(0.52, 0.01, 0.9, 0.02)
        del scores["membership_auc_high"]
        assert answer(scores, "membership") == "inconclusive"


class TestUtility:
    @pytest.mark.parametrize(
        ("change", "half", "says"),
        [(0.0, 0.01, "kept"), (-0.005, 0.01, "kept"), (-0.1, 0.01, "broken"), (-0.02, 0.02, "inconclusive")],
    )
    def test_is_broken_only_where_two_points_are_surely_lost(self, change, half, says):
        assert answer(interval("holdout_change", change, half), "utility") == says

    def test_is_compared_with_the_retrained_model_where_there_is_one(self):
        """A poisoned original is no measure of what should be kept."""
        scores = interval("holdout_change", 0.1, 0.01) | interval("holdout_gap", -0.1, 0.01)
        assert answer(scores, "utility") == "broken"


class TestLikeness:
    @pytest.mark.parametrize(
        ("p", "power", "shift", "says"),
        [
            (0.5, 0.99, 0.0, "not detected"),
            (0.5, 0.30, 0.0, "inconclusive"),
            (0.01, 0.99, 1.0, "remembered"),
            (0.01, 0.30, -1.0, "over-forgotten"),
        ],
    )
    def test_is_worth_as_much_as_its_power(self, p, power, shift, says):
        scores = {"distance": 0.1, "distance_p": p, "distance_power": power, "shift": shift}
        assert answer({f"margin_{key}": value for key, value in scores.items()}, "likeness") == says

    def test_takes_its_direction_from_where_the_shift_is_largest(self):
        scores = {
            "margin_distance": 0.2,
            "margin_distance_p": 0.001,
            "margin_distance_power": 1.0,
            "margin_shift": 0.0,
        }
        assert (
            answer(scores | {"margin_shift_of_easy": 3.0, "margin_shift_of_hard": -0.1}, "likeness") == "remembered"
        )
        assert answer(scores | {"margin_shift_of_hard": -3.0}, "likeness") == "over-forgotten"

    def test_is_open_where_the_retrained_model_differs_too(self):
        scores = {
            "margin_distance": 0.2,
            "margin_distance_p": 0.001,
            "margin_distance_power": 1.0,
            "margin_shift": 1.0,
        }
        assert answer(scores | {"margin_distance_p_reference": 0.01}, "likeness") == "inconclusive"
        assert answer(scores | {"margin_distance_p_reference": 0.3}, "likeness") == "remembered"


class TestClassAndCanaries:
    def test_a_class_that_is_gone_is_not_recognised(self):
        ends = {"": 0.98, "_low": 0.9, "_high": 1.0}
        original = {f"holdout_forgotten_accuracy_original{end}": value for end, value in ends.items()}
        for value, says in ((0.0, "not detected"), (0.9, "remembered")):
            assert answer(interval("holdout_forgotten_accuracy", value, 0.02) | original, "class") == says

    def test_canaries_are_judged_apart(self):
        original = {f"canary_membership_auc_original{e}": v for e, v in (("", 1.0), ("_low", 0.98), ("_high", 1.0))}
        scores = interval("canary_membership_auc", 0.97, 0.02) | original | membership(0.5, 0.05, 0.53, 0.06)
        assert answer(scores, "canaries") == "remembered" and answer(scores, "membership") == "inconclusive"


class TestGenerators:
    @pytest.mark.parametrize(("value", "says"), [(0.02, "not detected"), (0.2, "inconclusive"), (0.9, "remembered")])
    def test_a_concept_that_is_gone_is_not_drawn(self, value, says):
        ends = {"": 0.95, "_low": 0.9, "_high": 1.0}
        original = {f"drawn_forget_accuracy_original{end}": share for end, share in ends.items()}
        assert (
            answer(interval("drawn_forget_accuracy", value, 0.1 if value == 0.2 else 0.02) | original, "class")
            == says
        )

    @pytest.mark.parametrize(
        ("change", "half", "says"), [(0.0, 0.01, "kept"), (-0.1, 0.05, "broken"), (-0.02, 0.01, "inconclusive")]
    )
    def test_what_is_kept_must_still_be_drawn(self, change, half, says):
        assert answer(interval("drawn_retain_change", change, half), "utility") == says


class TestRelearning:
    @pytest.mark.parametrize(
        ("ratio", "half", "before", "says"),
        [
            (0.3, 0.1, 0.2, "remembered"),
            (1.0, 0.15, 0.2, "not detected"),
            (1.0, 0.4, 0.2, "inconclusive"),  # three of five seeds may have been faster
            (2.0, 0.2, 0.2, "over-forgotten"),
            (1.0, 0.2, 1.0, "inconclusive"),
        ],
    )
    def test_is_compared_with_learning_the_unseen(self, ratio, half, before, says):
        original = {f"relearning_ratio_original{e}": before + d for e, d in (("", 0), ("_low", -0.1), ("_high", 0.1))}
        assert answer(interval("relearning_ratio", ratio, half) | original, "relearning") == says

    def test_a_bound_is_not_sure(self):
        """Where learning the unseen met the cap, the forgotten may be relearnt faster than the ratio says."""
        scores = {"relearning_ratio": 1.0, "relearning_ratio_high": 1.1, "relearning_ratio_original": 0.1}
        scores |= {"relearning_ratio_original_low": 0.05, "relearning_ratio_original_high": 0.2}
        assert answer(scores, "relearning") == "inconclusive"
        assert answer(scores | {"relearning_ratio": 0.3, "relearning_ratio_high": 0.5}, "relearning") == "remembered"


def test_reasons_carry_the_numbers():
    (found,) = findings(membership(0.65, 0.02, 0.9, 0.02))
    assert "0.650 [0.630, 0.670]" in found.reason and "original 0.900 [0.880, 0.920]" in found.reason
    assert "38 %" in found.reason
