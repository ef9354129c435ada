"""The scores of a zero-shot task hold its own measures, beside those of the original and of a retrained model."""

import numpy as np
import pytest

from amnesty.data import plant_canaries
from amnesty.errors import InvalidInputError, MissingMeasureError
from amnesty.evaluation import Evaluator, evaluate, rescored
from amnesty.evaluation.measures import is_own
from tests import tiny
from tests import tiny_clip as toy
from tests.evaluation.test_zero_shot import moved, task_of


@pytest.fixture(scope="module")
def evaluator():
    task = task_of()
    return Evaluator(task, moved(task.model, seed=2))


def test_scores_hold_them(evaluator):
    model = moved(evaluator.task.model)
    found = evaluator(model)
    assert found["transfer_change"] == pytest.approx(
        found["transfer_accuracy"] - evaluator.original["transfer_accuracy"]
    )
    for key in ("paraphrased_forget_accuracy", "probe_forget_accuracy", "pair_membership_auc"):
        assert found[f"{key}_original"] == evaluator.original[key]
        assert found[f"{key}_reference"] == evaluator.reference[key]
    assert found["transfer_accuracy_reference"] == evaluator.reference["transfer_accuracy"]
    assert "transfer_accuracy/colours" in found.own and "transfer_accuracy/colours_reference" not in found.own
    assert evaluate(evaluator.task, model)["text_feature_drift"] == found["text_feature_drift"] > 0
    assert evaluator.original["text_feature_drift"] == pytest.approx(0, abs=1e-6)


def test_they_stay_when_the_others_are_taken_again_from_answers(evaluator):
    scores = {"original": evaluator.original, "munba": evaluator(moved(evaluator.task.model))}
    again = rescored({n: s.answers for n, s in scores.items()}, {n: s.own for n, s in scores.items()})
    for name, found in scores.items():
        kept = {k: v for k, v in found.own.items() if not k.endswith("_to_reference")}
        assert again[name].own.items() >= {k: v for k, v in kept.items() if "transfer" in k or "recall" in k}.items()
        assert again[name]["probe_forget_accuracy"] == found["probe_forget_accuracy"]
        assert all(is_own(k) for k in again[name].own)


def test_the_model_under_test_is_asked_and_not_the_original(evaluator):
    other = evaluator.task.classifier(toy.untrained(seed=1))
    assert evaluator(other)["image_feature_drift"] > 0.01


def test_what_the_task_lacks_is_said(evaluator):
    bare = task_of(paraphrases=())
    with pytest.raises(MissingMeasureError, match=r"could not be taken: it needs further templates"):
        Evaluator(bare)(bare.model)["paraphrased_forget_accuracy"]
    plain = tiny.task()
    with pytest.raises(MissingMeasureError, match=r"`amnesty.ZeroShot` with `transfers`"):
        evaluate(plain, plain.model)["transfer_accuracy"]
    assert not any(np.isnan(v) for v in evaluator.original.values())


def test_another_image_tower_is_shown_pixels_when_it_learns_again():
    cached, plain = task_of(train="text"), task_of(train="text", cache=False)
    other = cached.classifier(toy.untrained(seed=1))
    found, expected = (evaluate(task, other, also=["relearning"]).own for task in (cached, plain))
    assert "relearning_p" in found
    assert found == pytest.approx(expected)


def test_canaries_are_refused():
    canaries = plant_canaries(tiny.blobs(30), tiny.blobs(20, seed=5), 5, tiny.CLASSES, seed=0)
    with pytest.raises(InvalidInputError, match="a zero-shot task reads pictures"):
        Evaluator(task_of(), canaries=canaries)
