"""The one door: what it refuses, and what it leaves as it was."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

import amnesty
from amnesty.errors import DataError, InvalidInputError, NonFiniteError
from amnesty.methods import METHODS, FineTune, GradientAscent, MUNBa, NegGradPlus
from amnesty.testing import MODELS, Case
from tests import tiny
from tests.methods.test_contract import CLASSIFIERS, quick


class Augmented(Dataset):
    """Adds noise as many data sets do: from the global generators of NumPy and the standard library."""

    def __init__(self, data) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i):
        image, label = self.data[i]
        return image + 0.1 * torch.from_numpy(np.random.randn(1, 6, 6)).float() + random.random(), label


def augmented() -> amnesty.Classification:
    task = tiny.task()
    parts = {part: Augmented(task.parts[part]) for part in ("forget", "retain")}
    return amnesty.Classification(tiny.conv_net(), **parts, duplicates="keep")


class TestAugmentations:
    def test_of_any_library_follow_the_seed(self):
        random.seed(1), np.random.seed(1)
        first = amnesty.unlearn(augmented(), FineTune(epochs=1), seed=0)
        random.seed(2), np.random.seed(2)
        second = amnesty.unlearn(augmented(), FineTune(epochs=1), seed=0)
        assert tiny.same(tiny.weights(first.model), tiny.weights(second.model))

    def test_leave_the_callers_generators(self):
        task = augmented()
        random.seed(3), np.random.seed(3)
        kept = random.getstate(), np.random.get_state()[1:3], torch.get_rng_state()
        outcome = amnesty.unlearn(task, FineTune(epochs=1), seed=0)
        amnesty.evaluate(task, outcome.model)
        assert random.getstate() == kept[0] and torch.equal(torch.get_rng_state(), kept[2])
        assert (np.random.get_state()[1] == kept[1][0]).all() and np.random.get_state()[2] == kept[1][1]


class TestRefusals:
    @pytest.mark.parametrize("task", [tiny.mlp(), None, {"forget": []}])
    def test_of_what_is_no_task(self, task):
        says = f"`task` must say what to forget and what to keep: .*found {type(task).__name__}"
        with pytest.raises(InvalidInputError, match=says):
            amnesty.unlearn(task, FineTune())

    @pytest.mark.parametrize("method", [MUNBa, "munba", None, METHODS])
    def test_of_what_is_no_method(self, method):
        with pytest.raises(InvalidInputError, match="`method` must be an instance of a method"):
            amnesty.unlearn(tiny.task(), method)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    @pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")])
    def test_of_a_device_that_is_not_there(self, device):
        with pytest.raises(InvalidInputError, match="`device` .*cuda.* cannot be used here"):
            amnesty.unlearn(tiny.task(), FineTune(), device=device)

    @pytest.mark.parametrize("device", ["gpu", "cpu:x", 3.5])
    def test_of_a_device_that_does_not_exist(self, device):
        with pytest.raises(InvalidInputError, match="`device`"):
            amnesty.unlearn(tiny.task(), FineTune(), device=device)

    def test_of_a_loader_that_leaves_examples_out(self):
        data = tiny.blobs()
        with pytest.raises(DataError, match="loader of the retain set has `drop_last=True`"):
            amnesty.Classification(
                tiny.mlp(), forget=tiny.blobs(9, seed=3), retain=DataLoader(data, 32, drop_last=True)
            )


class TestTheOutcome:
    def test_remembers_how_it_came_about(self):
        method = FineTune(epochs=1)
        outcome = amnesty.unlearn(tiny.task(), method, seed=7)
        assert outcome.method is method and outcome.seed == 7
        assert isinstance(outcome.model, nn.Module) and not outcome.model.training

    @pytest.mark.parametrize(
        ("name", "precision", "enabled"),
        [(name, "float32", True) for name in CLASSIFIERS]
        + [(name, "bfloat16", enabled) for name in ("munba", "scrub", "ssd") for enabled in (True, False)],
    )
    def test_does_not_depend_on_a_callers_autocast(self, name, precision, enabled):
        case = Case(quick(name, "CNN"), MODELS["CNN with batch norm"])
        expected = tiny.weights(case.run(case.task(), precision=precision).model)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found = tiny.weights(case.run(case.task(), precision=precision).model)
        assert tiny.same(found, expected)

    def test_a_failure_holds_the_last_good_model_and_leaves_the_callers(self):
        task = tiny.task(tiny.mlp())
        before = tiny.weights(task.model)
        answers = iter([1.0, 1.0, torch.nan])
        method = MUNBa(rule=lambda gramian: torch.full((2,), next(answers), dtype=torch.float64), batch_size=32)
        steps = []
        with pytest.raises(NonFiniteError, match=r"Step 3 \(epoch 1\): the rule gives player 'forget'") as error:
            amnesty.unlearn(task, method, progress=lambda record, total: steps.append(record))
        assert error.value.model is not task.model and error.value.step == 3 == len(steps) + 1
        good = tiny.weights(error.value.model)
        assert not tiny.same(good, before) and all(value.isfinite().all() for value in good.values())
        assert tiny.same(tiny.weights(task.model), before)


class TestWithoutARetainSet:
    @staticmethod
    def task():
        return amnesty.Classification(tiny.mlp(), forget=tiny.blobs(12))

    def test_methods_that_read_the_forget_set_alone_run(self):
        task = self.task()
        outcome = amnesty.unlearn(task, GradientAscent(lr=0.1))
        assert outcome.history[-1]["forget_loss"] < outcome.history[0]["forget_loss"]
        assert "forget_accuracy" in amnesty.evaluate(task, outcome.model)

    @pytest.mark.parametrize("name", CLASSIFIERS)
    def test_those_that_need_one_say_so_before_they_start(self, name):
        task, steps, method = self.task(), [], quick(name, "CNN")
        if "retain" not in method.about.needs:
            return
        with pytest.raises(InvalidInputError, match=f"{type(method).__name__} needs the retain set.*it has forget"):
            amnesty.unlearn(task, method, progress=lambda record, total: steps.append(record))
        assert not steps


class TestNamedForgetSets:
    """One request of several users."""

    @staticmethod
    def task():
        data = tiny.blobs()
        sets = {"ann": Subset(data, range(8)), "bob": Subset(data, range(8, 20))}
        return amnesty.Classification(tiny.mlp(), forget=sets, retain=Subset(data, range(20, 120)))

    def test_are_players_of_a_bargain_each(self):
        history = amnesty.unlearn(self.task(), MUNBa(epochs=1, at_least=0)).history
        players = ("ann", "bob", "retain")
        assert all(record[f"{name}_weight"] > 0 for record in history for name in players)
        assert not any("forget_loss" in record for record in history)

    def test_are_one_set_for_other_methods(self):
        data = tiny.blobs()
        plain = amnesty.Classification(
            tiny.mlp(), forget=Subset(data, range(20)), retain=Subset(data, range(20, 120))
        )
        found = [amnesty.unlearn(task, NegGradPlus(epochs=1)).model for task in (self.task(), plain)]
        assert tiny.same(*map(tiny.weights, found))
