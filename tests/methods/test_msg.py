import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import amnesty
from amnesty.errors import InvalidInputError, ModelError
from amnesty.methods.msg import MSG
from tests import tiny
from tests.methods.by_hand import assert_same_weights, by_hand, entropy, slope
from tests.methods.nets import deep_mlp, two_convs
from tests.methods.presteps import only_before_training


def renewed(task, method, seed=0):
    model, calls = only_before_training(task, method, seed)
    names = [name for name, _ in model.named_parameters()]
    masks = {name: model.get_parameter(name) != task.model.get_parameter(name) for name in names}
    return model, {name: mask for name, mask in masks.items() if mask.any()}, calls


def gradient(model, examples, name):
    total = 0.0
    for image, label in examples:
        loss = F.cross_entropy(model(image[None]), torch.tensor([int(label)]))
        total = total + torch.autograd.grad(loss, model.get_parameter(name))[0]
    return total / len(examples)


@pytest.mark.parametrize("make", [two_convs, tiny.conv_net])
def test_only_convolutions_are_renewed_and_nothing_else_moves(make):
    """Acceptance test 9."""
    task = tiny.task(make())
    before = tiny.weights(task.model)
    model, masks, _ = renewed(task, MSG())
    assert masks.keys() == {n for n, p in task.model.named_parameters() if p.dim() == 4}
    assert all(int(mask.sum()) == int(0.3 * mask.numel()) for mask in masks.values())
    after = tiny.weights(model)
    assert all(torch.equal(after[name], before[name]) for name in before if name not in masks)


def test_those_with_the_smallest_difference_of_mean_gradients_are_chosen_in_each_layer():
    data, model = tiny.blobs(), two_convs()
    retain, forget = (torch.utils.data.Subset(data, list(which)) for which in (range(7), range(7, 23)))
    task = amnesty.Classification(model, forget=forget, retain=retain)  # fewer to keep: all of them are seen
    _, masks, _ = renewed(task, MSG(batch_size=5))
    model.eval()
    for name, mask in masks.items():
        difference = (gradient(model, retain, name) - gradient(model, forget, name)).abs().flatten()
        chosen = difference.argsort()[: int(0.3 * len(difference))]
        assert set(mask.flatten().nonzero()[:, 0].tolist()) == set(chosen.tolist())


def test_batch_sizes_change_nothing_of_what_is_renewed():
    first, second = (renewed(tiny.task(two_convs()), MSG(batch_size=size))[0] for size in (5, 64))
    assert tiny.same(tiny.weights(first), tiny.weights(second))


def test_as_many_retained_examples_are_seen_as_there_are_to_forget(monkeypatch):
    seen = []

    def watched(model, source, **other):
        seen.append(sorted(float(image.sum()) for image, _ in source))
        return amnesty.weights.dataset_gradient(model, source, **other)

    monkeypatch.setattr("amnesty.methods.msg.dataset_gradient", watched)
    task = tiny.task(two_convs())
    for seed in (0, 1):
        renewed(task, MSG(), seed)
    images = {float(image.sum()) for image, _ in task.parts["retain"]}
    assert [len(part) for part in seen] == [12] * 4
    assert set(seen[1]) <= images and seen[1] != seen[3] and seen[0] == seen[2]


def test_new_weights_are_kaiming_normal_by_fan_out():
    task = tiny.task(nn.Sequential(nn.Conv2d(1, 300, 3), nn.Conv2d(300, 30, 3), nn.Flatten(), nn.Linear(120, 3)))
    model, masks, _ = renewed(task, MSG(renewed=0.5))
    new = model[1].weight.detach()[masks["1.weight"]]
    assert new.std() == pytest.approx((2 / (30 * 9)) ** 0.5, rel=0.02) and abs(new.mean()) < 0.001


def test_then_it_is_training_in_which_kept_kernel_weights_learn_more_slowly():
    task = tiny.task(deep_mlp())
    settings = {"lr": 0.05, "epochs": 3, "momentum": 0.6, "weight_decay": 0.05, "schedule": "cosine"}
    method = MSG(batch_size=20, kept_gradient=0.2, **settings)
    start, masks, _ = renewed(task, method, seed=3)
    assert masks.keys() == {"1.weight", "3.weight"}  # no convolutions: linear layers but the classifier
    outcome = amnesty.unlearn(task, method, seed=3)

    def direction(model, batches):
        names = (name for name, _ in model.named_parameters())
        gradients = zip(names, slope(model, entropy(model, batches["retain"])), strict=True)
        return [torch.where(masks[name], g, 0.2 * g) if name in masks else g for name, g in gradients]

    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, model=start, **settings)
    assert_same_weights(outcome.model, expected)


@pytest.mark.parametrize(
    ("epochs", "rates"),
    [(1, [1]), (2, [1, 1 / 2]), (4, [1 / 2, 1, 2 / 3, 1 / 3]), (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])],
)
def test_the_learning_rate_goes_up_and_down_from_pass_to_pass(epochs, rates):
    history = amnesty.unlearn(tiny.task(deep_mlp()), MSG(epochs=epochs, batch_size=50)).history
    assert [r["lr"] for r in history] == pytest.approx([1e-3 * rate for rate in rates for _ in range(3)])


def test_what_must_not_move_is_not_renewed():
    task = tiny.task(two_convs())
    task.model[0].requires_grad_(False)
    held = torch.rand(6, 4, 3, 3) < 0.5
    found = amnesty.unlearn(task, MSG(epochs=1), masks={"3.weight": held}).model
    assert torch.equal(found[0].weight, task.model[0].weight)
    assert torch.equal(found[3].weight[~held], task.model[3].weight[~held])


def test_statistics_are_those_of_training_only():
    task = tiny.task()
    before = copy.deepcopy(task.model[1].state_dict())
    model, _ = only_before_training(task, MSG())
    assert tiny.same(dict(before), tiny.weights(model[1]))


def test_a_model_without_layers_to_renew_is_refused():
    task = tiny.task(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)))
    with pytest.raises(ModelError, match="no convolution and no linear layer but its classifier"):
        amnesty.unlearn(task, MSG())


@pytest.mark.parametrize("given", [{"renewed": 1.1}, {"kept_gradient": -0.1}, {"renewed": None}])
def test_settings_are_checked(given):
    with pytest.raises(InvalidInputError, match=f"`{next(iter(given))}` must be"):
        MSG(**given)
