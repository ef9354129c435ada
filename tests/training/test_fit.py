import pytest
import torch
from torch import nn

from amnesty import Recipe, train
from amnesty.data import Examples
from amnesty.errors import DataError, InvalidInputError, ModelError
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


def test_frozen_parameters_are_neither_kept_nor_made_new():
    model = tiny.conv_net()
    model[5].bias.requires_grad_(False)
    with pytest.raises(ModelError, match=r"1 parameters are frozen, such as '5\.bias'.*`Retrain\(fresh=\.\.\.\)`"):
        reinitialised(model, seed=0)


class Normalised(nn.Module):
    """Divides by a constant that no training finds again."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("deviation", torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / self.deviation


def test_constants_are_kept_and_statistics_are_new():
    model = nn.Sequential(Normalised(), *tiny.conv_net())
    model[0].deviation.fill_(7.0)
    model(torch.randn(8, 1, 6, 6))
    fresh = reinitialised(model, seed=0)
    assert fresh[0].deviation == 7 and fresh[2].num_batches_tracked == 0
    assert torch.equal(fresh[2].running_mean, torch.zeros(8)) and model[2].num_batches_tracked == 1


def test_new_weights_follow_the_seed_and_leave_the_callers_generator():
    state = torch.get_rng_state()
    first, second, other = (tiny.weights(reinitialised(tiny.conv_net(), seed=seed)) for seed in (0, 0, 1))
    assert tiny.same(first, second) and not tiny.same(first, other)
    assert torch.equal(torch.get_rng_state(), state)


class TestRefusals:
    """All before anything is trained."""

    @staticmethod
    def refused(data, error, says):
        steps = []
        with pytest.raises(error, match=says):
            train(tiny.conv_net(), data, Recipe(epochs=1), watch=lambda record, total: steps.append(record))
        assert not steps

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_pixels_that_are_no_numbers(self, bad):
        images = tiny.blobs().images.clone()
        images[7, 0, 2, 2] = bad
        self.refused(Examples(images, tiny.blobs().labels), DataError, "Example 7 of the training set holds NaN")

    @pytest.mark.parametrize("label", [-1, 3, 255])
    def test_labels_outside_the_classes(self, label):
        labels = tiny.blobs().labels.clone()
        labels[7] = label
        data = Examples(tiny.blobs().images, labels)
        self.refused(
            data, DataError, f"1 labels of the training set are outside the model's 3 classes, such as {label}"
        )

    def test_inputs_that_the_model_cannot_take(self):
        data = Examples(torch.zeros(9, 1, 5, 5), torch.arange(9) % 3)
        self.refused(data, ModelError, "cannot take a training batch")


def test_a_recipe_needs_a_positive_rate():
    with pytest.raises(InvalidInputError, match="`lr` must be a positive number.*`epochs` must be a whole number"):
        Recipe(lr=0.0, epochs=1.5)


def test_modes_of_a_trained_model_are_for_use():
    assert not train(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), tiny.blobs(), Recipe(epochs=1)).training
