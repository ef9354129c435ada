import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import amnesty
from amnesty.data import Batches
from amnesty.errors import InvalidInputError, ModelError
from amnesty.methods import About, FineTune, Method, RandomLabels
from amnesty.methods.omp import OMP
from amnesty.training import Recipe
from amnesty.weights import renew_modules
from tests import tiny
from tests.methods.nets import deep_mlp, two_convs

QUICK = FineTune(epochs=2, batch_size=40)
RATES = {"constant": lambda done: 1.0, "linear": lambda done: 1 - done}


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """Remembers what it is given."""

    about: ClassVar = About("", "", "", None, "", ())
    seen: list

    def run(self, task, loop):
        self.seen.append((task, copy.deepcopy(task.model), copy.deepcopy(loop.model), loop))


def plain_training(model, data, passes, of, recipe, seed, alive=None):
    """Passes of a recipe: their numbers in the run give data order, their numbers in the recipe the rates."""
    stream, velocity = Batches(data, recipe.batch_size, seed, "together"), None
    for number, place in zip(passes, of, strict=True):
        for k, ((images, labels), _) in enumerate(stream.iterate(number)):
            model.train()
            gradients = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
            pairs = zip(gradients, model.parameters(), strict=True)
            update = [g + recipe.weight_decay * p for g, p in pairs]
            velocity = (
                update
                if velocity is None
                else [recipe.momentum * v + u for v, u in zip(velocity, update, strict=True)]
            )
            done = (place * len(stream) + k) / (recipe.epochs * len(stream))
            with torch.no_grad():
                for (name, p), v in zip(model.named_parameters(), velocity, strict=True):
                    p.sub_(recipe.lr * RATES[recipe.schedule](done) * v)
                    if alive and name in alive:
                        p.mul_(alive[name])
    return model


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("rewind", [0, 1])
def test_it_trains_prunes_goes_back_and_trains_again(schedule, rewind):
    task = tiny.task(deep_mlp())
    recipe = Recipe(lr=0.1, epochs=3, batch_size=40, momentum=0.6, weight_decay=0.01, schedule=schedule)
    seen = []
    amnesty.unlearn(task, OMP(method=Nothing(seen=seen), recipe=recipe, sparsity=0.7, rewind_epochs=rewind), seed=3)

    both = amnesty.data.Together([task.parts["forget"], task.parts["retain"]])
    model = copy.deepcopy(task.model)
    renew_modules(model, dict(model.named_parameters()), 3)
    early = plain_training(copy.deepcopy(model), both, range(1, rewind + 1), range(rewind), recipe, 3)
    dense = plain_training(copy.deepcopy(model), both, (1, 2, 3), (0, 1, 2), recipe, 3)
    scores = torch.cat([dense[k].weight.flatten().abs() for k in (1, 3)])
    least = scores.sort().values[int(0.7 * len(scores))]
    alive = {f"{k}.weight": dense[k].weight.abs() >= least for k in (1, 3)}
    with torch.no_grad():
        for name, mask in alive.items():
            early.get_parameter(name).mul_(mask)
    late = range(rewind, 3)
    sparse = plain_training(early, both, [4 + k for k in range(len(late))], late, recipe, 3, alive)
    for p, q in zip(seen[0][2].parameters(), sparse.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [QUICK, RandomLabels(epochs=2, sam=0.01, optimizer="adam", lr=0.01)], ids=type)
def test_pruned_weights_of_convolutions_are_zero_to_the_end_and_all_others_are_trained(method):
    task = tiny.task(two_convs())
    outcome = amnesty.unlearn(task, OMP(method=method, recipe=Recipe(epochs=2), sparsity=0.8, rewind_epochs=1))
    zeros = {n: int((p == 0).sum()) for n, p in outcome.model.named_parameters()}
    total = sum(task.model[k].weight.numel() for k in (0, 3))
    assert zeros["0.weight"] + zeros["3.weight"] == int(0.8 * total)
    assert zeros["7.weight"] == zeros["7.bias"] == zeros["1.weight"] == 0
    assert [r["step"] for r in outcome.history] == list(range(1, len(outcome.history) + 1))
    assert len(outcome.history) > 3 and outcome.history[-1]["epoch"] == 2 + 1 + 2


def test_the_original_of_the_second_method_is_the_sparse_network_and_the_task_keeps_its_model():
    task, seen = tiny.task(two_convs()), []
    before = tiny.weights(task.model)
    amnesty.unlearn(task, OMP(method=Nothing(seen=seen), recipe=Recipe(epochs=2), rewind_epochs=0))
    given, model, loops, loop = seen[0]
    assert tiny.same(tiny.weights(model), tiny.weights(loops)) and given.model is not loop.model
    assert given is not task and tiny.same(tiny.weights(task.model), before)


def test_a_model_that_is_sparse_already_keeps_its_zeros_and_is_not_trained_anew():
    task, seen = tiny.task(two_convs()), []
    dead = {name: torch.rand(task.model.get_parameter(name).shape) < 0.5 for name in ("3.weight", "7.weight")}
    with torch.no_grad():
        for name, mask in dead.items():
            task.model.get_parameter(name)[mask] = 0.0
    amnesty.unlearn(task, OMP(method=Nothing(seen=seen), sparsity=None))
    assert tiny.same(tiny.weights(seen[0][2]), tiny.weights(task.model))
    found = amnesty.unlearn(task, OMP(method=QUICK, sparsity=None)).model
    for name, mask in dead.items():
        assert torch.equal(found.get_parameter(name) == 0, mask)
    assert (found[1].bias != 0).all()  # which began at zero, as biases do


def test_what_must_not_move_is_neither_trained_nor_pruned():
    task = tiny.task(two_convs())
    task.model[0].requires_grad_(False)
    held = torch.rand(6, 4, 3, 3) < 0.5
    method = OMP(method=QUICK, recipe=Recipe(epochs=2), sparsity=0.9, rewind_epochs=1)
    found = amnesty.unlearn(task, method, masks={"3.weight": held}).model
    assert torch.equal(found[0].weight, task.model[0].weight)
    assert torch.equal(found[3].weight[~held], task.model[3].weight[~held])
    assert (found[3].weight[held] == 0).float().mean() > 0.7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": FineTune}, "`method` must be an instance of another method, found <class"),
        ({"method": OMP(method=QUICK)}, "`method` must be an instance of another method, found OMP"),
        ({"sparsity": 1.0}, r"`sparsity` must be in \[0, 1\) or None, found 1.0"),
        ({"sparsity": "0.9"}, r"`sparsity` must be in \[0, 1\) or None, found '0.9'"),
        ({"rewind_epochs": 30}, "`rewind_epochs` must be below the 30 of the recipe, found 30"),
        ({"rewind_epochs": -1}, "`rewind_epochs` must be a whole number of at least 0"),
    ],
)
def test_settings_are_checked(given, message):
    with pytest.raises(InvalidInputError, match=message):
        OMP(**{"method": QUICK, **given})


def test_what_cannot_be_pruned_is_refused_before_any_work():
    with pytest.raises(ModelError, match="this model has none"):
        amnesty.unlearn(tiny.task(), OMP(method=QUICK, sparsity=None))
    with pytest.raises(ModelError, match="no convolution and no linear layer but its classifier"):
        amnesty.unlearn(tiny.task(nn.Sequential(nn.Flatten(), nn.Linear(36, 3))), OMP(method=QUICK))
    task = tiny.task()
    task.model[0].requires_grad_(False)
    with pytest.raises(ModelError, match="those of this model are all frozen"):
        amnesty.unlearn(task, OMP(method=QUICK))


def test_what_the_second_method_needs_is_checked_too():
    task = amnesty.Classification(two_convs(), forget=tiny.blobs(9), retain=tiny.blobs(30, seed=1))
    unseen = amnesty.methods.MUNBa(wish="unseen")
    with pytest.raises(InvalidInputError, match="MUNBa"):
        amnesty.unlearn(task, OMP(method=unseen))
