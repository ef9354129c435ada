import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from amnesty.data import Fraction, plant_canaries, split
from amnesty.errors import InvalidInputError, MissingMeasureError, MissingReferenceError, ModelError, SplitError
from amnesty.evaluation import Evaluator, evaluate, rescored, self_test
from amnesty.evaluation.measures import is_own
from amnesty.tasks import Classification
from tests import tiny


def fit(data, device, seed=0, steps=150):
    """Know by heart whatever is there."""
    loader = torch.utils.data.DataLoader(data, batch_size=len(data))
    inputs, labels = (x.to(device) for x in next(iter(loader)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 64), nn.ReLU(), nn.Linear(64, 3)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def planted(request):
    """A task with ordinary and canary examples to forget, the original, and two retrained models."""
    device = torch.device("cpu")
    canaries = plant_canaries(tiny.blobs(150), tiny.blobs(90, seed=5), 30, tiny.CLASSES, seed=0)
    parts = split(canaries.others, Fraction(0.2, seed=1)).parts(canaries.others)
    task = Classification(
        fit(canaries.training, device),
        forget=ConcatDataset([canaries.members, parts["forget"]]),
        retain=parts["retain"],
        holdout=tiny.blobs(90, seed=5),
    )
    retrained = [fit(parts["retain"], device, seed) for seed in (1, 2)]
    return task, canaries, retrained


class TestCanaries:
    def test_are_told_apart_from_the_rest(self, planted):
        task, canaries, retrained = planted
        found = evaluate(task, task.model, retrained[0], canaries=canaries)
        ordinary = Classification(
            task.model,
            forget=task.parts["forget"].datasets[1],
            retain=task.parts["retain"],
            holdout=task.parts["holdout"],
        )
        alone = evaluate(ordinary, task.model, retrained[0])
        assert {key: value for key, value in found.items() if "canary" not in key} == alone
        assert found["canary_accuracy"] > 0.9 and found["canary_membership_auc"] > 0.9
        assert len(found.answers["canaries"]) == len(found.answers["canary_nonmembers"]) == 30

    def test_tell_a_retrained_model_from_one_that_remembers(self, planted):
        task, canaries, retrained = planted
        evaluator = Evaluator(task, canaries=canaries)
        answers = [
            {f.question: f.answer for f in evaluator(model).findings}["canaries"]
            for model in (task.model, retrained[0])
        ]
        assert answers[0] == "remembered" and answers[1] in ("not detected", "inconclusive", "over-forgotten")
        assert evaluator(retrained[0])["canary_membership_auc_original"] > 0.9

    def test_that_nobody_forgets_are_refused(self, planted):
        task, canaries, _ = planted
        other = Classification(task.model, forget=task.parts["retain"], holdout=task.parts["holdout"])
        with pytest.raises(SplitError, match="30 of 30 canaries are not in the forget set"):
            Evaluator(other, canaries=canaries)

    def test_alone_are_no_request(self, planted):
        task, canaries, _ = planted
        only = Classification(
            task.model, forget=canaries.members, retain=canaries.others, holdout=task.parts["holdout"]
        )
        with pytest.raises(SplitError, match=r"nonmembers=canaries\.nonmembers"):
            Evaluator(only, canaries=canaries)


class TestReferences:
    def test_a_second_one_is_the_floor(self, planted):
        task, _, (first, second) = planted
        evaluator = Evaluator(task, first, second_reference=second)
        found = evaluator(task.model)
        assert found["average_gap_null"] == evaluator.second_reference["average_gap"] > 0
        assert found["js_to_reference_null"] == evaluator.second_reference["js_to_reference"]
        assert found["js_to_reference"] > found["js_to_reference_null"] > 0
        assert evaluator.reference["js_to_reference"] == pytest.approx(0, abs=1e-12)
        assert found["retain_accuracy_reference"] == evaluator.reference["retain_accuracy"]
        assert evaluator.reference["average_gap"] == 0 and evaluator.reference["tug_of_war"] == 1

    def test_without_one_every_distance_refuses(self, planted):
        found = evaluate(planted[0], planted[0].model)
        for key in ("average_gap", "js_to_reference", "weight_distance", "average_gap_null"):
            assert key not in found
            with pytest.raises(MissingReferenceError, match="`reference=`"):
                found[key]

    def test_a_second_one_needs_a_first(self, planted):
        task, _, (first, _) = planted
        with pytest.raises(InvalidInputError, match="give both"):
            Evaluator(task, second_reference=first)

    def test_the_original_is_scored_as_any_model(self, planted):
        task, _, (first, _) = planted
        evaluator = Evaluator(task, first)
        assert evaluator(task.model) == evaluator.original == evaluate(task, task.model, first)
        assert evaluator.original["holdout_change"] == 0
        assert evaluator(first)["membership_auc_original"] == evaluator.original["membership_auc"]

    def test_time_is_compared_with_that_of_retraining(self, planted):
        task, _, (first, _) = planted
        assert Evaluator(task, first, reference_seconds=10.0)(task.model, seconds=2.0)["runtime_efficiency"] == 5.0
        assert "runtime_efficiency" not in Evaluator(task, first)(task.model, seconds=2.0)

    @pytest.mark.parametrize("where", ["reference", "second_reference"])
    def test_of_other_classes_are_refused(self, planted, where):
        task, _, (first, _) = planted
        other = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
        with pytest.raises(ModelError, match="5 classes apart, the task's model 3"):
            Evaluator(task, **({"reference": first} | {where: other}))


class TestAlso:
    def test_published_protocols_and_untrained_networks(self, planted):
        task, canaries, (first, _) = planted
        few = Classification(
            task.model,
            forget=task.parts["forget"],
            retain=task.parts["retain"],
            holdout=Subset(task.parts["holdout"], range(60)),
        )
        found = Evaluator(few, first, canaries=canaries, also=["compat", "teachers"])(task.model)
        keys = {"svc_confidence_compat", "svc_correctness_compat", "logistic_loss_compat", "zero_retrain_forgetting"}
        assert all(0 <= found[key] <= 1 for key in keys)
        assert found["svc_correctness_compat"] in (found["unlearning_accuracy"], 1 - found["unlearning_accuracy"])

    def test_relearning_is_compared_with_unseen_examples(self, planted):
        task, canaries, (first, _) = planted
        evaluator = Evaluator(task, first, canaries=canaries, also=["relearning"])
        before = [p.detach().clone() for p in first.parameters()]
        found = evaluator(first)
        assert found.get("relearning_ratio", 1.0) >= 0 and 0 <= found["relearning_p"] <= 1
        assert ("relearning_ratio" in found) != ("relearning_ratio" in found.absent)
        assert all(torch.equal(a, b) for a, b in zip(before, first.parameters(), strict=True))
        blind = Classification(task.model, forget=task.parts["forget"], retain=task.parts["retain"])
        with pytest.raises(InvalidInputError, match="compared with learning unseen examples"):
            Evaluator(blind, also=["relearning"])

    def test_one_that_cannot_be_taken_leaves_the_others_and_says_why(self, planted):
        task, canaries, _ = planted
        parts = task.parts | {"holdout": tiny.blobs(200, seed=5)}  # more test than retained examples
        much = Evaluator(Classification(task.model, **parts), canaries=canaries, also=["compat"])(task.model)
        assert "svc_confidence_compat" not in much and 0 <= much["logistic_loss_compat"] <= 1
        with pytest.raises(MissingMeasureError, match="could not be taken: .*retained"):
            much["svc_confidence_compat"]

    def test_unknown_names_are_refused(self, planted):
        with pytest.raises(InvalidInputError, match="compat, relearning, teachers; found 'everything'"):
            Evaluator(planted[0], also=["everything"])


def test_stored_answers_give_the_same_scores(planted):
    task, canaries, (first, second) = planted
    evaluator = Evaluator(task, first, second_reference=second, canaries=canaries, seed=3)
    scores = {"original": evaluator.original, "retrain": evaluator.reference, "again": evaluator(second)}
    answers = {name: found.answers for name, found in scores.items()}
    facts = {name: {"weight_distance": found["weight_distance"]} for name, found in scores.items()}
    again = rescored(answers, facts, reference="retrain", floor="again", seed=3)
    for name, found in scores.items():
        assert again[name].own == found.own
        assert {k: v for k, v in again[name].items() if is_own(k)} == found.own
    with pytest.raises(InvalidInputError, match="no answers of 'retrain'"):
        rescored({"original": scores["original"].answers}, {}, reference="retrain")


def test_shuffling_the_examples_changes_no_measure(planted):
    task, _, (first, _) = planted
    random = np.random.default_rng(0)
    parts = {n: Subset(s, random.permutation(len(s)).tolist()) for n, s in task.parts.items()}
    shuffled = Classification(task.model, **parts)
    one, other = evaluate(task, task.model, first), evaluate(shuffled, task.model, first)
    assert dict(other) == pytest.approx(dict(one), abs=1e-9)


class TestSelfTest:
    def test_shows_the_end_points(self, planted):
        task, canaries, (first, second) = planted
        found = {
            c.measure.key: c for c in self_test(Evaluator(task, first, second_reference=second, canaries=canaries))
        }
        destroyed = found["unlearning_accuracy"]
        assert "destroyed" in destroyed.fooled_by and not destroyed.criterion
        assert found["canary_membership_auc"].resolution and not found["canary_membership_auc"].criterion
        for key in ("average_gap", "js_to_reference", "tug_of_war"):
            assert found[key].criterion, key
            assert found[key].distances["destroyed"] > found[key].floor
        assert (
            found["membership_auc"].values["retrained"] == evaluate(task, first, canaries=canaries)["membership_auc"]
        )

    def test_no_measure_that_may_rank_is_fooled(self, planted):
        """What the table says of measures is what these models show."""
        task, canaries, (first, second) = planted
        evaluator = Evaluator(task, first, second_reference=second, canaries=canaries, also=["teachers"])
        for checked in self_test(evaluator):
            assert checked.measure.blind or not checked.resolution or not checked.fooled_by, checked

    def test_needs_two_retrained_models(self, planted):
        task, _, (first, _) = planted
        with pytest.raises(MissingReferenceError, match="a second one"):
            self_test(Evaluator(task, first))

    def test_takes_a_destroyed_model_of_one_s_own(self, planted):
        task, _, (first, second) = planted
        constant = nn.Sequential(nn.Flatten(), nn.Linear(36, 64), nn.ReLU(), nn.Linear(64, 3))
        nn.init.zeros_(constant[3].weight)
        nn.init.constant_(constant[3].bias, 0.5)
        found = {c.measure.key: c for c in self_test(Evaluator(task, first, second_reference=second), constant)}
        assert found["membership_auc"].values["destroyed"] == 0.5 and "destroyed" in found["membership_auc"].fooled_by


def test_a_dataset_of_pairs_will_do():
    x = torch.randn(60, 36, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, torch.arange(60) % 3)
    model = nn.Linear(36, 3)
    task = Classification(model, forget=Subset(data, range(20)), holdout=Subset(data, range(20, 60)))
    assert 0 <= evaluate(task, model)["membership_auc"] <= 1
