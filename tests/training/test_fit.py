import pytest
import torch
from torch import nn

from amnesty import Recipe, train
from amnesty.errors import InvalidInputError, ModelError
from amnesty.training import reinitialised
from tests import tiny


def test_training_learns_and_is_reproducible():
    model, data = tiny.conv_net(), tiny.blobs()
    before, state = tiny.weights(model), torch.get_rng_state()
    recipe = Recipe(epochs=8, batch_size=32)
    first, second, other = (train(model, data, recipe, seed=seed) for seed in (0, 0, 1))
    assert tiny.same(tiny.weights(first), tiny.weights(second))
    assert not tiny.same(tiny.weights(first), tiny.weights(other))
    assert tiny.same(tiny.weights(model), before) and torch.equal(torch.get_rng_state(), state)
    assert (first(data.images).argmax(1) == data.labels).float().mean() > 0.95


def test_a_fresh_copy_shares_nothing_with_the_trained_one():
    trained = tiny.conv_net()
    trained(torch.randn(8, 1, 6, 6))
    fresh = reinitialised(trained, seed=0)
    for name, value in fresh.state_dict().items():
        if name == "1.num_batches_tracked":
            assert value == 0
        elif "1." not in name:  # batch norm starts from the same constants
            assert not torch.equal(value, trained.state_dict()[name])


def test_what_cannot_be_initialised_is_named():
    with pytest.raises(ModelError, match="Attention.*reset_parameters"):
        reinitialised(tiny.attention(), seed=0)


def test_a_recipe_needs_a_positive_rate():
    with pytest.raises(InvalidInputError, match="`lr` must be positive"):
        Recipe(lr=0.0)


def test_modes_of_a_trained_model_are_for_use():
    assert not train(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), tiny.blobs(), Recipe(epochs=1)).training
