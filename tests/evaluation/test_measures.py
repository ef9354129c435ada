import pytest

from amnesty.errors import InvalidInputError, MissingMeasureError, MissingReferenceError, UnknownNameError
from amnesty.evaluation import GAP_PARTS, MEASURES, Scores, beyond_answers, criterion
from amnesty.evaluation.measure_table import TABLE
from amnesty.evaluation.measures import REMEMBERED, base, is_own, of_another, of_original


def test_keys_are_snake_case_words_and_titles_are_for_people():
    for key, measure in MEASURES.items():
        assert key == measure.key and key.replace("_", "").isalnum() and key == key.lower()
        assert measure.title and measure.short and measure.meaning.endswith(".")
        assert measure.low < measure.high


def test_no_name_stands_twice():
    assert len(TABLE) == len(MEASURES) and len({measure.title for measure in TABLE}) == len(TABLE)


def test_what_only_images_tell_stays_as_it_was_recorded():
    found = {"drawn_retain_accuracy": 0.9, "fid_retain_count": 5.0, "drawn_forget_accuracy/three": 0.1}
    assert beyond_answers({**found, "retain_accuracy": 1.0, "fid_retain_reference": 1.0}) == found


def test_the_tables_that_name_measures_name_known_ones():
    assert {*GAP_PARTS, *REMEMBERED} <= set(MEASURES)


@pytest.mark.parametrize("suffix", ["_low", "_high", "_count", "_original", "_reference", "_null", "_original_high"])
def test_a_number_beside_a_measure_belongs_to_it(suffix):
    for key in MEASURES:
        assert base(key + suffix) == key and base(key) == key
        assert is_own(key) and is_own(key + suffix) == (suffix in ("_low", "_high", "_count"))


def test_numbers_of_other_models_are_named_after_them():
    theirs = {"membership_auc": 0.9, "membership_auc_low": 0.8, "retain_accuracy": 1.0, "js_to_reference": 0.1}
    assert of_original(theirs) == {"membership_auc_original": 0.9, "membership_auc_original_low": 0.8}
    assert set(of_another(theirs, "null")) == {"membership_auc_null", "retain_accuracy_null", "js_to_reference_null"}


@pytest.mark.parametrize("key", ["unlearning_accuracy", "forget_accuracy", "membership_auc", "svc_confidence_compat"])
def test_what_prefers_a_model_that_nobody_wants_ranks_nothing(key):
    with pytest.raises(InvalidInputError, match=rf"cannot be ranked by `{key}`.*destroyed.*average_gap"):
        criterion(key)


@pytest.mark.parametrize("key", ["average_gap", "tug_of_war", "js_to_reference", "agreement_with_reference"])
def test_distances_to_the_retrained_model_may_rank(key):
    assert criterion(key).key == key


def test_every_measure_that_may_rank_needs_a_reference():
    assert {measure.needs for measure in MEASURES.values() if not measure.blind} == {"reference"}


class TestGoodness:
    def test_follows_the_aim(self):
        assert MEASURES["unlearning_accuracy"].goodness(0.9, 0.5) > MEASURES["unlearning_accuracy"].goodness(0.8, 0.5)
        assert MEASURES["average_gap"].goodness(0.1, 0.0) > MEASURES["average_gap"].goodness(0.2, 0.0)
        assert MEASURES["membership_auc"].goodness(0.5, 0.7) > MEASURES["membership_auc"].goodness(0.6, 0.7)
        assert MEASURES["svc_confidence_compat"].goodness(0.7, 0.7) == 0

    def test_is_best_at_chance_from_both_sides(self):
        ideal = {"membership_advantage": 0.0, "relearning_ratio": 1.0, "membership_tpr_at_1_percent": 0.01}
        for key, chance in ideal.items():
            measure = MEASURES[key]
            assert measure.goodness(chance, 0.3) == 0
            assert measure.goodness(chance + 0.1, 0.3) == pytest.approx(measure.goodness(chance - 0.1, 0.3)) == -0.1


@pytest.mark.parametrize(
    ("key", "error", "says"),
    [
        ("average_gap", MissingReferenceError, "pass `reference=`"),
        ("js_to_reference", MissingReferenceError, "pass `reference=`"),
        ("holdout_accuracy_reference", MissingReferenceError, "pass `reference=`"),
        ("average_gap_null", MissingReferenceError, "`second_reference=`"),
        ("canary_membership_auc", MissingMeasureError, "planted before training"),
        ("relearning_ratio", MissingMeasureError, r"also=\['relearning'\]"),
        ("zero_retrain_forgetting", MissingMeasureError, r"also=\['teachers'\]"),
        ("svc_confidence_compat", MissingMeasureError, r"also=\['compat'\]"),
        ("membership_auc", MissingMeasureError, "needs unseen examples"),
        ("drawn_forget_accuracy", MissingMeasureError, "`judge=` to `amnesty.evaluation.GenerationEvaluator`"),
        ("fid_retain", MissingMeasureError, "compares drawn with real images: pass `real=`"),
        ("clip_score_retain", MissingMeasureError, "pass `clip=`"),
        ("exposed_share_at_60_percent", MissingMeasureError, "pass `nudity=`"),
        ("seconds", MissingMeasureError, "was not taken"),
        ("no_such_thing", UnknownNameError, "Unknown measure"),
    ],
)
def test_an_absent_measure_says_what_it_needs(key, error, says):
    with pytest.raises(error, match=says):
        Scores({"forget_accuracy": 0.5})[key]
    assert Scores({}).get(key) is None and issubclass(error, KeyError)
