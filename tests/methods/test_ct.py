import copy

import pytest
import torch
from torch import nn

import amnesty
from amnesty.errors import ModelError
from amnesty.methods.ct import CT
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, entropy, slope
from tests.methods.presteps import only_before_training


def no_norm() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(64, 3))


def test_it_is_training_from_transposed_kernels():
    task = tiny.task(no_norm())
    outcome = amnesty.unlearn(task, CT(batch_size=20, **SETTINGS), seed=3)
    start = copy.deepcopy(task.model)
    start[0].weight.data = start[0].weight.data.transpose(2, 3).contiguous()

    def direction(model, batches):
        return slope(model, entropy(model, batches["retain"]))

    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, model=start, **SETTINGS)
    assert_same_weights(outcome.model, expected)


def test_twice_is_the_identity():
    """Acceptance test 9."""
    task = tiny.task(no_norm())
    once, _ = only_before_training(task, CT())
    assert not torch.equal(once[0].weight, task.model[0].weight)
    again = amnesty.Classification(once, **task.parts)
    assert tiny.same(tiny.weights(only_before_training(again, CT())[0]), tiny.weights(task.model))


def test_what_must_not_move_is_not_transposed():
    task = tiny.task(no_norm())
    held = torch.rand(4, 1, 3, 3) < 0.5
    found = amnesty.unlearn(task, CT(), masks={"0.weight": held}).model
    assert torch.equal(found[0].weight[~held], task.model[0].weight[~held])


@pytest.mark.parametrize("model", ["mlp", "attention", "frozen"])
def test_a_model_with_nothing_to_transpose_is_refused(model):
    task = tiny.task(no_norm() if model == "frozen" else tiny.MODELS[model]())
    if model == "frozen":
        task.model[0].requires_grad_(False)
    with pytest.raises(ModelError, match="nothing to transpose: this .* has no square kernel of a 2-d convolution"):
        amnesty.unlearn(task, CT())
