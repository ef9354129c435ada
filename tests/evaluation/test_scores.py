import copy
import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from amnesty.data import Examples
from amnesty.errors import MissingReferenceError, ModelError, UnknownNameError
from amnesty.evaluation import GAP_PARTS, MEASURES, Scores, average_gap, evaluate, margins
from amnesty.evaluation.measures import base
from amnesty.tasks import Classification
from tests.tasks.samples import confident, lookup_task, with_table

CLASSES = 4
MEMBERSHIP = {"membership_auc", "membership_advantage"}
ATTACKS = {"membership_auc_correctness", "membership_auc_entropy", "membership_auc_modified_entropy"}
LIKENESS = {key for key in MEASURES if key.startswith("margin_")}


def measures(scores):
    """What was measured, without what stands beside it."""
    return {key for key in scores if base(key) == key}


def noisy(labels, right, seed=0):
    """Logits that answer the first ``right`` labels correctly and the others with the class after."""
    answers = torch.where(torch.arange(len(labels)) < right, labels, (labels + 1) % CLASSES)
    noise = torch.randn(len(labels), CLASSES, generator=torch.Generator().manual_seed(seed))
    return confident(answers, CLASSES, 5.0) + 0.1 * noise


def labels_of(n, classes=CLASSES):
    return torch.arange(n) % classes


def random_task(device, **more):
    """Some examples of every class are forgotten."""
    parts = {
        "forget": (noisy(labels_of(20), 15, 1), labels_of(20)),
        "retain": (noisy(labels_of(60), 54, 2), labels_of(60)),
        "holdout": (noisy(labels_of(40), 30, 3), labels_of(40)),
    }
    return lookup_task(parts, device, **more)


def class_task(device):
    """Class 3 is forgotten: 12 examples, of which 3 are still known, and 1 of 8 unseen ones."""
    unseen = torch.cat([torch.full((8,), 3), labels_of(30, 3)])
    right = torch.cat([torch.arange(8) < 1, torch.arange(30) < 24])
    answers = torch.where(right, unseen, (unseen + 1) % CLASSES)
    parts = {
        "forget": (noisy(torch.full((12,), 3), 3), torch.full((12,), 3)),
        "retain": (noisy(labels_of(60, 3), 57), labels_of(60, 3)),
        "holdout": (confident(answers, CLASSES, 5.0), unseen),
    }
    return lookup_task(parts, device)


class TestScores:
    VALUES = {"forget_accuracy": 0.25, "unlearning_accuracy": 0.75}  # noqa: RUF012

    def test_are_a_mapping(self):
        found = Scores(self.VALUES)
        assert dict(found) == self.VALUES == found
        assert found == Scores(dict(reversed(self.VALUES.items())))
        assert found != Scores({"forget_accuracy": 0.25})
        assert (len(found), list(found), "forget_accuracy" in found) == (2, list(self.VALUES), True)
        assert json.loads(json.dumps(dict(found))) == self.VALUES
        assert found.items() >= {"forget_accuracy": 0.25}.items()

    def test_cannot_be_changed(self):
        values = dict(self.VALUES)
        found = Scores(values)
        values["forget_accuracy"] = 0.9
        assert found["forget_accuracy"] == 0.25
        with pytest.raises(TypeError):
            found["forget_accuracy"] = 0.9
        with pytest.raises(AttributeError):
            found.forget_accuracy = 0.9

    def test_are_plain_numbers_that_read_well(self):
        found = Scores({"forget_accuracy": np.float64(0.25)})
        assert repr(found) == "Scores({'forget_accuracy': 0.25})"
        assert eval(repr(found)) == found

    @pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
    def test_travel(self, travel):
        assert travel(Scores(self.VALUES)) == Scores(self.VALUES)

    def test_without_a_reference_there_is_no_gap(self):
        found = Scores(self.VALUES)
        with pytest.raises(MissingReferenceError, match="pass `reference=` to `evaluate`"):
            found["average_gap"]
        assert found.get("average_gap") is None
        assert found.get("average_gap", 1.0) == 1.0
        assert "average_gap" not in found

    def test_an_unknown_measure_is_answered_with_the_nearest(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'forget_accuracy'"):
            Scores(self.VALUES)["forgot_accuracy"]
        with pytest.raises(KeyError):
            Scores(self.VALUES)["seconds"]


class TestEvaluate:
    def test_counts_what_is_right(self, device):
        it = random_task(device)
        found = evaluate(it, it.model)
        accuracies = {f"{part}_accuracy" for part in ("forget", "unlearning", "retain", "holdout")}
        assert measures(found) == {*accuracies, "holdout_change", *MEMBERSHIP, *ATTACKS, *LIKENESS}
        assert found["forget_accuracy"] == pytest.approx(15 / 20)
        assert found["unlearning_accuracy"] == pytest.approx(5 / 20)
        assert found["retain_accuracy"] == pytest.approx(54 / 60)
        assert found["holdout_accuracy"] == pytest.approx(30 / 40)

    def test_of_a_forgotten_class_is_told_apart_on_unseen_examples(self, device):
        it = class_task(device)
        found = evaluate(it, it.model)
        assert it.forgotten_classes == (3,)
        assert found["forget_accuracy"] == pytest.approx(3 / 12)
        assert found["holdout_accuracy"] == pytest.approx(24 / 30)
        assert found["holdout_forgotten_accuracy"] == pytest.approx(1 / 8)
        assert set(found) >= MEMBERSHIP

    def test_membership_auc_compares_with_unseen_examples_of_the_class(self, device):
        it = class_task(device)
        said = {part: it.predict(it.model, part) for part in ("forget", "holdout")}
        members = margins(said["forget"].logits, said["forget"].labels)
        same = said["holdout"].labels == 3
        others = margins(said["holdout"].logits[same], said["holdout"].labels[same])
        truth = np.repeat([1, 0], [len(members), len(others)])
        expected = roc_auc_score(truth, np.concatenate([members, others]))
        assert evaluate(it, it.model)["membership_auc"] == pytest.approx(expected)

    def test_membership_auc_leaves_out_classes_that_nothing_unseen_is_of(self, device):
        y = {"forget": torch.tensor([0, 0, 3, 3]), "retain": labels_of(30), "holdout": torch.tensor([0, 0])}
        margin = {"forget": [1.0, 2.0, 9.0, 9.0], "retain": 1.0, "holdout": [1.0, 2.0]}
        parts = {name: (confident(y[name], CLASSES, torch.as_tensor(margin[name])), y[name]) for name in y}
        it = lookup_task(parts, device)
        assert evaluate(it, it.model)["membership_auc"] == 0.5

    def test_membership_follows_what_is_known(self, device):
        labels = labels_of(200)

        def parts(forget):
            spread = torch.linspace(-2, 2, 200)
            made = {"forget": forget, "retain": 8.0, "holdout": 2.0}
            return {name: (confident(labels, CLASSES, spread + m), labels) for name, m in made.items()}

        known, like_unseen, over = (lookup_task(parts(m), device) for m in (8.0, 2.0, -4.0))
        scores = [evaluate(it, it.model) for it in (known, like_unseen, over)]
        assert [s["membership_auc"] for s in scores] == pytest.approx([1, 0.5, 0], abs=0.03)
        assert scores[0]["membership_advantage"] > 0.9
        assert abs(scores[1]["membership_advantage"]) < 0.05
        assert scores[2]["membership_advantage"] <= 0

    def test_nonmembers_take_the_place_of_the_holdout_part(self, device):
        """Poisoned: under their wrong labels, unseen examples are as unlikely as the forgotten ones."""
        true = labels_of(80)
        wrong = (true + 1) % CLASSES
        parts = {
            "forget": (confident(true, CLASSES), wrong),
            "retain": (confident(true, CLASSES), true),
            "holdout": (confident(true, CLASSES), true),
        }
        it = lookup_task(parts, device)
        assert evaluate(it, it.model)["membership_auc"] == 0
        it = lookup_task(parts | {"nonmembers": (confident(true, CLASSES), wrong)}, device)
        found = evaluate(it, it.model)
        assert found["membership_auc"] == 0.5
        assert "nonmembers_accuracy" not in found

    def test_without_unseen_examples_there_is_no_membership_test(self, device):
        it = random_task(device)
        blind = Classification(it.model, forget=it.parts["forget"], retain=it.parts["retain"])
        accuracies = {"forget_accuracy", "unlearning_accuracy", "retain_accuracy"}
        assert measures(evaluate(blind, blind.model)) == accuracies

    def test_without_unseen_examples_of_the_class_neither(self, device):
        labels = {"forget": torch.full((6,), 3), "retain": labels_of(30, 3), "holdout": labels_of(30, 3)}
        it = lookup_task({name: (confident(y, CLASSES), y) for name, y in labels.items()}, device)
        found = evaluate(it, it.model)
        assert not MEMBERSHIP & set(found)
        assert "holdout_forgotten_accuracy" not in found

    def test_with_too_few_of_them_only_the_advantage_is_missing(self, device):
        labels = {"forget": torch.zeros(6), "retain": torch.zeros(30), "holdout": torch.zeros(1)}
        labels = {name: y.long() for name, y in labels.items()}
        it = lookup_task({name: (confident(y, CLASSES), y) for name, y in labels.items()}, device, duplicates="keep")
        assert MEMBERSHIP & set(evaluate(it, it.model)) == {"membership_auc"}

    def test_a_holdout_part_of_forgotten_classes_only(self, device):
        labels = {"forget": torch.full((6,), 3), "retain": labels_of(30, 3), "holdout": torch.full((6,), 3)}
        it = lookup_task({name: (confident(y, CLASSES), y) for name, y in labels.items()}, device)
        found = evaluate(it, it.model)
        assert found["holdout_forgotten_accuracy"] == 1
        assert "holdout_accuracy" not in found
        assert set(found) >= {"membership_auc"}

    def test_validation_is_not_scored(self, device):
        parts = {name: (noisy(labels_of(20), 15, i), labels_of(20)) for i, name in enumerate(["forget", "retain"])}
        it = lookup_task(parts | {"validation": (torch.full((20, CLASSES), torch.nan), labels_of(20))}, device)
        assert "validation_accuracy" not in evaluate(it, it.model)

    def test_changes_neither_model_nor_generators(self, device):
        it = random_task(device)
        it.model.train()
        before, numpy = torch.get_rng_state(), np.random.get_state()[1].tolist()
        table = it.model.table.detach().clone()
        evaluate(it, it.model, it.model)
        assert it.model.training
        assert it.model.table.equal(table)
        assert it.model.table.grad is None
        assert torch.get_rng_state().equal(before)
        assert np.random.get_state()[1].tolist() == numpy

    def test_does_not_depend_on_a_callers_autocast(self, device):
        inputs = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
        parts = {n: Examples(inputs[i::3], labels_of(30)) for i, n in enumerate(["forget", "retain", "holdout"])}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES)).to(device)
        it = Classification(model, **parts)
        expected = evaluate(it, model, copy.deepcopy(model))
        with torch.autocast(device.type, torch.bfloat16):
            found = evaluate(it, model, copy.deepcopy(model))
        assert found == expected and found["average_gap"] == 0

    @pytest.mark.parametrize("classes", [CLASSES - 1, CLASSES + 1])
    @pytest.mark.parametrize("where", ["model", "reference"])
    def test_refuses_a_model_of_other_classes(self, device, classes, where):
        it = random_task(device)
        other = with_table(it, torch.zeros(120, classes))
        with pytest.raises(ModelError, match=f"tells {classes} classes apart, the task's model {CLASSES}"):
            evaluate(it, **({"model": it.model, "reference": other} if where == "reference" else {"model": other}))

    @pytest.mark.parametrize("where", ["model", "reference"])
    def test_refuses_a_model_of_other_inputs(self, device, where):
        it, other = random_task(device), nn.Linear(7, CLASSES).to(device)
        with pytest.raises(ModelError, match=r"cannot take a forget batch of shape \[2, 1\]"):
            evaluate(it, **({"model": it.model, "reference": other} if where == "reference" else {"model": other}))

    def test_seconds_stand_among_the_scores_where_they_are_told(self, device):
        it = random_task(device)
        told = evaluate(it, it.model, it.model, seconds=1.5)
        assert told["seconds"] == 1.5 and told["average_gap"] == 0
        assert {name: told[name] for name in told if name != "seconds"} == evaluate(it, it.model, it.model)
        assert evaluate(it, it.model, seconds=0)["seconds"] == 0

    def test_follows_its_seed(self, device):
        it = random_task(device)
        one, same, other = (evaluate(it, it.model, seed=s) for s in (0, 0, 1))
        assert one == same != other

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize(("part", "row"), [("forget", 0), ("retain", 25), ("holdout", 119)])
    def test_refuses_logits_that_are_not_finite(self, device, bad, part, row):
        it = random_task(device)
        table = it.model.table.detach().clone()
        table[row, 2] = bad
        with pytest.raises(ModelError, match=f"logits on the {part} set are not finite"):
            evaluate(it, with_table(it, table))


class TestReference:
    def test_itself_is_at_no_distance(self, device):
        it = random_task(device)
        assert evaluate(it, it.model, it.model)["average_gap"] == 0

    @pytest.mark.parametrize("make", [random_task, class_task])
    def test_gap_is_the_mean_over_its_parts(self, device, make):
        it = make(device)
        reference = with_table(it, torch.randn(it.model.table.shape, generator=torch.Generator().manual_seed(5)))
        found, other = evaluate(it, it.model, reference), evaluate(it, reference)
        expected = np.mean([abs(found[name] - other[name]) for name in GAP_PARTS])
        assert found["average_gap"] == pytest.approx(expected)
        assert found["average_gap"] > 0

    def test_may_be_a_model_its_scores_or_what_was_read_from_a_file(self, device):
        it = random_task(device)
        reference = with_table(it, torch.randn(it.model.table.shape, generator=torch.Generator().manual_seed(5)))
        scores = evaluate(it, reference)
        found = [evaluate(it, it.model, r) for r in (reference, scores, json.loads(json.dumps(dict(scores))))]
        assert found[1] == found[2] and found[1].items() <= found[0].items()
        only_with_the_model = {"js_to_reference", "agreement_with_reference", "weight_distance", "holdout_gap"}
        assert measures(found[0]) - measures(found[1]) == only_with_the_model

    def test_average_gap_uses_what_both_have(self):
        one = {"forget_accuracy": 0.5, "retain_accuracy": 0.9, "seconds": 5.0}
        other = {"forget_accuracy": 0.25, "retain_accuracy": 0.9, "membership_auc": 0.5, "seconds": 9.0}
        assert average_gap(one, other) == average_gap(other, one) == pytest.approx(0.125)

    def test_average_gap_needs_something_in_common(self):
        with pytest.raises(MissingReferenceError, match="share none of forget_accuracy"):
            average_gap({"seconds": 1.0}, {"forget_accuracy": 0.5})


def test_a_model_that_memorised_is_told_from_one_that_did_not(device):
    """From end to end, on labels that are noise: only who has seen them can know them."""
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randn(150, 20, generator=draw), torch.randint(0, 2, (150,), generator=draw)

    def fit(rows):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(120):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows].to(device)), labels[rows].to(device)).backward()
            optimizer.step()
        return model

    def part(rows):
        return torch.utils.data.TensorDataset(images[rows], labels[rows])

    original, retrained = fit(slice(0, 100)), fit(slice(20, 100))
    it = Classification(
        original, forget=part(slice(0, 20)), retain=part(slice(20, 100)), holdout=part(slice(100, 150))
    )
    before, reference = evaluate(it, original, retrained), evaluate(it, retrained)
    assert before["forget_accuracy"] > 0.95
    assert before["membership_auc"] > 0.7
    assert before["membership_advantage"] > 0.5
    assert abs(reference["membership_auc"] - 0.5) < 0.2
    assert abs(reference["membership_advantage"]) < 0.25
    assert before["average_gap"] > 0.15


class TestWithoutARetainSet:
    @staticmethod
    def task(device, **more):
        parts = {
            "forget": (noisy(labels_of(20), 15, 1), labels_of(20)),
            "holdout": (noisy(labels_of(40), 30, 3), labels_of(40)),
        }
        return lookup_task(parts | more, device)

    def test_what_can_be_measured_is_what_it_would_be_with_one(self, device):
        it = self.task(device)
        found, whole = evaluate(it, it.model), evaluate(random_task(device), random_task(device).model)
        accuracies = {f"{part}_accuracy" for part in ("forget", "unlearning", "holdout")}
        assert measures(found) == {*accuracies, "holdout_change", "membership_auc", *ATTACKS, *LIKENESS}
        assert found["forget_accuracy"] == 0.75 == 1 - found["unlearning_accuracy"]
        assert {name: whole[name] for name in found} == dict(found)

    def test_a_reference_is_compared_over_what_both_have(self, device):
        it = self.task(device)
        found = evaluate(it, it.model, reference=it.model)
        assert found["average_gap"] == 0 and average_gap(found, {"retain_accuracy": 1, "holdout_accuracy": 1}) == 0.25

    def test_the_forget_set_alone(self, device):
        labels = labels_of(8)
        it = lookup_task({"forget": (noisy(labels, 2), labels)}, device)
        found = evaluate(it, it.model)
        assert measures(found) == {"forget_accuracy", "unlearning_accuracy"} and found["forget_accuracy"] == 0.25
