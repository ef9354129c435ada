"""The contract that every method keeps."""

import dataclasses

import pytest
import torch
from torch.utils.data import Dataset

import amnesty
from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.methods import METHODS, MUNBa, Retrain, method_named
from amnesty.training import Recipe
from tests import tiny

QUICK = {"epochs": 2, "batch_size": 32}


def quick(name: str, model: str = "conv") -> amnesty.methods.Method:
    if name == "retrain":
        return Retrain(recipe=Recipe(**QUICK), fresh=tiny.MODELS[model])
    return METHODS[name](**QUICK)


class Watched(Dataset):
    """Remembers whether it was read."""

    def __init__(self, data) -> None:
        self.data, self.reads = data, 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index):
        self.reads += 1
        return self.data[index]


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    @pytest.mark.parametrize("model", tiny.MODELS)
    def test_it_changes_a_copy_and_leaves_finite_weights(self, name, model):
        task = tiny.task(tiny.MODELS[model]())
        task.model[0].train(False) if model != "attention" else task.model.head.requires_grad_(False)
        before, modes = tiny.weights(task.model), [m.training for m in task.model.modules()]
        asked = [p.requires_grad for p in task.model.parameters()]
        outcome = amnesty.unlearn(task, quick(name, model), seed=0)
        assert tiny.same(tiny.weights(task.model), before)
        assert [m.training for m in task.model.modules()] == modes
        assert not tiny.same(tiny.weights(outcome.model), before)
        assert all(value.isfinite().all() for value in outcome.model.state_dict().values())
        if name != "retrain":
            assert [p.requires_grad for p in outcome.model.parameters()] == asked
            frozen = {n for n, p in task.model.named_parameters() if not p.requires_grad}
            assert all(torch.equal(outcome.model.state_dict()[n], before[n]) for n in frozen)
        assert all(p.grad is None for p in (*outcome.model.parameters(), *task.model.parameters()))
        assert outcome.history and outcome.seconds > 0 and not outcome.model.training

    def test_one_seed_gives_the_same_bits_and_leaves_the_callers_randomness(self, name):
        task, state = tiny.task(), torch.get_rng_state()
        first, second, other = (amnesty.unlearn(task, quick(name), seed=s).model for s in (1, 1, 2))
        assert tiny.same(tiny.weights(first), tiny.weights(second))
        assert not tiny.same(tiny.weights(first), tiny.weights(other))
        assert torch.equal(torch.get_rng_state(), state)

    def test_it_reads_what_it_says_it_needs_and_nothing_else(self, name):
        whole = tiny.task()
        parts = {part: Watched(source) for part, source in whole.parts.items()}
        parts["validation"] = Watched(tiny.blobs(30, seed=8))
        task = amnesty.Classification(tiny.conv_net(), **parts)
        task.check()
        for part in parts.values():
            part.reads = 0
        method = quick(name)
        amnesty.unlearn(task, method)
        read = {part for part, data in parts.items() if data.reads}
        assert read == {*method.about.needs, *method.about.uses} - {"recipe"}

    def test_a_forget_set_larger_than_the_retain_set_works(self, name):
        outcome = amnesty.unlearn(tiny.task(forget=0.8), quick(name))
        assert outcome.history

    def test_settings_are_frozen_documented_and_checked(self, name):
        method = quick(name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            method.anything = 1
        assert (
            method.about.title and method.about.source and "Source:" in (type(method).__doc__ or "")
        ) or name == "retrain"
        for setting in {f.name for f in dataclasses.fields(method)} & {"lr", "epochs", "batch_size"}:
            with pytest.raises(InvalidInputError, match=f"`{setting}` must be a"):
                dataclasses.replace(method, **{setting: -1})

    def test_progress_is_told_every_step(self, name):
        seen = []
        outcome = amnesty.unlearn(tiny.task(), quick(name), progress=lambda record, total: seen.append(total))
        assert len(seen) == len(outcome.history) == seen[-1]


def test_all_faults_of_a_method_are_named_at_once():
    with pytest.raises(InvalidInputError) as error:
        MUNBa(lr=-1, epochs=0, pairing="zip", batch_norm="off", momentum=-0.1)
    for setting in ("lr", "epochs", "pairing", "batch_norm", "momentum"):
        assert f"`{setting}`" in str(error.value)


def test_a_class_is_not_a_method():
    with pytest.raises(InvalidInputError, match=r"an instance of a method, such as `amnesty.methods.MUNBa\(\)`"):
        amnesty.unlearn(tiny.task(), MUNBa)


def test_unknown_names_get_a_suggestion():
    assert method_named("munba") is MUNBa
    with pytest.raises(UnknownNameError, match="Did you mean 'munba'"):
        method_named("numba")


def test_bad_data_is_refused_before_anything_is_trained():
    data = tiny.blobs()
    images = data.images.clone()
    images[3] = torch.nan
    broken = amnesty.data.Examples(images, data.labels)
    calls = []
    model = tiny.conv_net()
    before = tiny.weights(model)
    task = amnesty.Classification(model, forget=tiny.blobs(9, seed=2), retain=broken)
    with pytest.raises(amnesty.data.examples.DataError, match="Example 3 of the retain set holds NaN"):
        amnesty.unlearn(task, quick("munba"), progress=lambda record, total: calls.append(1))
    assert not calls and tiny.same(tiny.weights(model), before)
