import pytest
import torch
from torch import nn

from amnesty import Recipe, train
from amnesty.data import Examples
from amnesty.errors import DataError, InvalidInputError, ModelError
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
