import pytest
import torch
from torch import nn

import amnesty
from amnesty.errors import ModelError
from amnesty.methods import Retrain
from amnesty.training import Recipe
from amnesty.weights import reinitialised
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, entropy, slope


def test_it_is_ordinary_training_of_new_weights_by_the_recipe():
    task = tiny.task(tiny.mlp())
    outcome = amnesty.unlearn(task, Retrain(recipe=Recipe(batch_size=20, **SETTINGS)), seed=3)

    def direction(model, batches):
        return slope(model, entropy(model, batches["retain"]))

    new = reinitialised(tiny.mlp(), 3)
    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, model=new, **SETTINGS)
    assert_same_weights(outcome.model, expected)


def test_retraining_is_training_without_the_forget_set():
    task, recipe = tiny.task(), Recipe(epochs=2, batch_size=32)
    outcome = amnesty.unlearn(task, Retrain(recipe=recipe), seed=4)
    assert len(outcome.history) == 2 * -(-108 // 32)
    other = amnesty.unlearn(
        amnesty.Classification(tiny.conv_net(), forget=tiny.blobs(9, seed=3), retain=task.parts["retain"]),
        Retrain(recipe=recipe),
        seed=4,
    )
    assert tiny.same(tiny.weights(outcome.model), tiny.weights(other.model))


def test_nothing_of_the_original_weights_remains():
    model = tiny.conv_net()
    with torch.no_grad():
        for value in (*model.parameters(), model[1].running_mean, model[1].running_var):
            value.add_(3.0)
    both = (amnesty.unlearn(tiny.task(m), Retrain(recipe=Recipe(epochs=1))).model for m in (model, tiny.conv_net()))
    assert tiny.same(*map(tiny.weights, both))


class TestFresh:
    def test_makes_the_model_that_is_trained(self):
        outcome = amnesty.unlearn(
            tiny.task(tiny.mlp()), Retrain(recipe=Recipe(lr=1e-30, weight_decay=0.0, epochs=1), fresh=zeros)
        )
        assert all((p.abs() < 1e-20).all() for p in outcome.model.parameters())

    def test_draws_from_the_seed_and_not_from_the_callers_generator(self):
        def fresh() -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 3))

        # So slow that only the first weights can tell the seeds apart, not the order of the data.
        method = Retrain(recipe=Recipe(lr=1e-30, weight_decay=0.0, epochs=1), fresh=fresh)
        task = tiny.task(tiny.mlp())
        first, second, other = (tiny.weights(amnesty.unlearn(task, method, seed=s).model) for s in (0, 0, 1))
        assert tiny.same(first, second) and not tiny.same(first, other)

    def test_of_another_architecture_is_refused(self):
        with pytest.raises(ModelError, match="`fresh` makes a model whose parameters differ"):
            amnesty.unlearn(tiny.task(), Retrain(recipe=Recipe(epochs=1), fresh=tiny.mlp))

    def test_says_what_is_trained_where_the_original_is_partly_frozen(self):
        model = tiny.conv_net()
        model[0].requires_grad_(False)
        with pytest.raises(ModelError, match="`fresh=`"):
            amnesty.unlearn(tiny.task(model), Retrain(recipe=Recipe(epochs=1)))
        outcome = amnesty.unlearn(tiny.task(model), Retrain(recipe=Recipe(epochs=1), fresh=tiny.conv_net))
        assert all(p.requires_grad for p in outcome.model.parameters())


def zeros() -> nn.Module:
    model = tiny.mlp()
    for p in model.parameters():
        nn.init.zeros_(p)
    return model
