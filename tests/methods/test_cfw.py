import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import amnesty
from amnesty.data import Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods.cfw import CFW
from amnesty.seeds import generator
from amnesty.tasks import Seen, weighted
from amnesty.training.rarity import rarity
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, slope
from tests.methods.nets import two_convs
from tests.methods.presteps import only_before_training


def uneven() -> amnesty.Classification:
    data = tiny.blobs()
    keep = [i for i in range(12, 120) if i % 3 != 1 or i % 4 == 0]
    parts = {name: Examples(data.images[i], data.labels[i]) for name, i in (("forget", range(12)), ("retain", keep))}
    return amnesty.Classification(tiny.mlp(), **parts)


def shaken(model: nn.Module, name: str, sigma: float, when: str, seed: int) -> nn.Module:
    p = model.get_parameter(name)
    with torch.no_grad():
        p += sigma * torch.empty(p.shape).normal_(generator=generator(seed, "noise", when))
    return model


@pytest.mark.parametrize(
    ("given", "weights"),
    [("balanced", None), (None, [1.0, 1.0, 1.0]), ([1.0, 0.05, 0.0], [1.0, 0.05, 0.0])],
)
def test_it_is_weighted_training_from_a_shaken_first_layer(given, weights):
    task = uneven()
    counts = torch.bincount(task.labels("retain"), minlength=3)
    assert len(counts.unique()) == 2
    weight = counts.sum() / (3 * counts) if weights is None else torch.tensor(weights)
    method = CFW(batch_size=20, first_noise=0.1, last_noise=0.0, class_weights=given, **SETTINGS)
    outcome = amnesty.unlearn(task, method, seed=3)

    def direction(model, batches):
        images, labels = batches["retain"]
        return slope(model, F.cross_entropy(model(images), labels, weight=weight))

    start = shaken(copy.deepcopy(task.model), "1.weight", 0.1, "first", seed=3)
    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, model=start, **SETTINGS)
    assert_same_weights(outcome.model, expected)


def test_class_weights_change_the_relative_gradient_of_two_samples():
    """Acceptance test 11."""
    logits, labels = torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 2])
    weights = rarity(torch.tensor([0, 0, 0, 0, 2]), 3)
    weighted(weights)(Seen(logits, labels, logits), torch.Generator()).mean().backward()
    first, second = logits.grad.norm(dim=1)
    assert second / first == pytest.approx(4)


def test_only_the_first_convolution_is_shaken_before_the_first_pass():
    task = tiny.task(two_convs())
    model, _ = only_before_training(task, CFW())
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, task.model.get_parameter(n))]
    assert changed == ["0.weight"]
    assert (model[0].weight - task.model[0].weight).std().item() == pytest.approx(0.6, rel=0.25)


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_second_noise_comes_before_the_last_pass_even_if_it_is_the_only_one(epochs):
    task, seen = tiny.task(two_convs()), []
    loop = amnesty.training.Loop(
        copy.deepcopy(task.model), task.sources, 5, watch=lambda record, total: seen.append(kernel())
    )

    def kernel():
        return loop.model[0].weight.detach().clone()

    CFW(lr=1e-12, weight_decay=0.0, epochs=epochs, batch_size=27, first_noise=0.1, last_noise=0.3).run(task, loop)
    once = shaken(copy.deepcopy(task.model), "0.weight", 0.1, "first", seed=5)
    twice = shaken(copy.deepcopy(once), "0.weight", 0.3, "last", seed=5)
    for k, found in enumerate(seen):
        torch.testing.assert_close(found, (twice if k // 4 == epochs - 1 else once)[0].weight)


def test_noise_never_reaches_what_must_not_move():
    task, seen = tiny.task(two_convs()), []
    held = torch.rand(4, 1, 3, 3) < 0.5
    task.model.register_forward_pre_hook(lambda module, args: seen.append(module[0].weight.detach().clone()))
    found = amnesty.unlearn(task, CFW(epochs=2, batch_size=27), masks={"0.weight": held}).model
    first = task.model[0].weight
    assert all(torch.equal(weight[~held], first[~held]) for weight in [*seen, found[0].weight])

    task.model[0].requires_grad_(False)
    assert torch.equal(amnesty.unlearn(task, CFW(epochs=2)).model[0].weight, first)


def test_a_class_that_is_forgotten_altogether_has_no_weight_and_does_no_harm():
    data = tiny.blobs()
    parts = split(data, Classes([1])).parts(data)
    task = amnesty.Classification(tiny.mlp(), forget=parts["forget"], retain=parts["retain"])
    assert CFW()._weights(task).tolist() == pytest.approx([80 / 120, 0, 80 / 120])
    assert amnesty.unlearn(task, CFW(epochs=1)).history


@pytest.mark.parametrize("given", ["even", [1.0, -1.0, 1.0], [1.0, float("inf"), 1.0], ["1", 2, 3]])
def test_class_weights_must_be_weights(given):
    with pytest.raises(InvalidInputError, match="`class_weights` must be 'balanced', None or numbers of at least 0"):
        CFW(class_weights=given)


@pytest.mark.parametrize(
    ("given", "message"), [([1, 1], "has 2 entries for 3 classes"), ([0, 0, 0], "are 0 for every class")]
)
def test_class_weights_must_fit_the_task(given, message):
    with pytest.raises(InvalidInputError, match=f"`class_weights` {message}"):
        amnesty.unlearn(tiny.task(), CFW(class_weights=given))
