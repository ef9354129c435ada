import random

import numpy as np
import pytest
import torch
from torch import nn

from amnesty.errors import CheckpointError
from amnesty.training.states import load_model, model_hash, model_state, random_states, set_random_states
from tests import tiny

CPU = torch.device("cpu")


class Counting(nn.Module):
    """Has a buffer that ``state_dict`` leaves out, one that it exchanges, and something of its own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("seen", torch.zeros(1), persistent=False)
        self.register_buffer("table", torch.zeros(2))
        self.calls = 0

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def copied(state):
    return {
        kind: {n: v.clone() if torch.is_tensor(v) else v for n, v in found.items()} for kind, found in state.items()
    }


def test_a_model_comes_back_in_place():
    model = Counting()
    kept, places = copied(model_state(model)), [p.data_ptr() for p in model.parameters()]
    before = model_hash(model)
    with torch.no_grad():
        model.linear.weight.add_(1)
        model.seen.add_(1)
    model.table, model.calls = torch.ones(5), 3
    assert model_hash(model) != before
    load_model(model, kept)
    assert model_hash(model) == before and model.calls == 0 and model.table.shape == (2,)
    assert places == [p.data_ptr() for p in model.parameters()]


def test_tied_parameters_are_saved_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert sorted(model_state(model)["parameters"]) == ["0.bias", "0.weight", "1.bias"]


def test_another_model_is_refused_and_stays():
    model = tiny.mlp()
    before = tiny.weights(model)
    with pytest.raises(
        CheckpointError, match=r"other parameters: '0.weight' has shape \[8, 1, 3, 3\] there and None"
    ):
        load_model(model, model_state(tiny.conv_net()))
    assert tiny.same(tiny.weights(model), before)


@pytest.mark.parametrize("change", ["value", "shape", "dtype", "name", "buffer"])
def test_the_hash_sees(change):
    first, second = (nn.ParameterDict({"w": torch.arange(4.0)}) for _ in range(2))
    assert model_hash(first) == model_hash(second)
    if change == "value":
        second["w"].data[3] = torch.nextafter(torch.tensor(3.0), torch.tensor(4.0))
    elif change == "shape":
        second["w"].data = second["w"].data.view(2, 2)
    elif change == "dtype":
        second["w"].data = second["w"].data.view(torch.int32).view(torch.float32).double()
    elif change == "name":
        second["v"] = second.pop("w")
    else:
        second.register_buffer("b", torch.zeros(0))
    assert model_hash(first) != model_hash(second)


def draws():
    normal = random.gauss(0, 1), np.random.randn()  # each keeps a second one for the next call
    return *normal, random.random(), np.random.rand(), torch.rand(3).tolist(), torch.randn(1).item()


def test_random_states_come_back():
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        draws()
        states = random_states(CPU)
        first = draws()
        assert draws() != first
        set_random_states(states, CPU)
        assert draws() == first
    finally:
        random.setstate(kept[0]), np.random.set_state(kept[1]), torch.set_rng_state(kept[2])
