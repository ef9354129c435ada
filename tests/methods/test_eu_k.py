import copy

import pytest
import torch

import amnesty
from amnesty.errors import InvalidInputError
from amnesty.methods.eu_k import EUk
from amnesty.weights import renew_modules
from tests import tiny
from tests.methods.by_hand import assert_same_weights, by_hand, entropy, slope
from tests.methods.nets import deep_mlp, two_convs
from tests.methods.presteps import only_before_training

LAST = ["3.weight", "3.bias", "5.weight", "5.bias"]


def test_it_is_training_of_renewed_last_stages_without_a_pull():
    task = tiny.task(deep_mlp())
    settings = {"lr": 0.1, "epochs": 3, "momentum": 0.6, "weight_decay": 0.0, "schedule": "linear"}
    outcome = amnesty.unlearn(task, EUk(batch_size=20, **settings), seed=3)
    start = copy.deepcopy(task.model)
    renew_modules(start, LAST, 3)

    def direction(model, batches):
        names = (name for name, _ in model.named_parameters())
        return [g * (n in LAST) for n, g in zip(names, slope(model, entropy(model, batches["retain"])), strict=True)]

    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, model=start, **settings)
    assert_same_weights(outcome.model, expected)


def test_renewed_stages_start_with_new_weights_and_statistics_and_take_new_ones():
    """Acceptance test 10."""
    task = tiny.task(two_convs())
    for layer in (1, 4):
        task.model[layer].running_mean.fill_(5.0)
        task.model[layer].running_var.fill_(5.0)
        task.model[layer].weight.data.fill_(3.0)
        task.model[layer].bias.data.fill_(2.0)
        task.model[layer].num_batches_tracked.fill_(100)
    before, (model, calls) = tiny.weights(task.model), only_before_training(task, EUk())
    start = tiny.weights(model)
    for name in before:
        kept = name.split(".")[0] in ("0", "1")
        assert torch.equal(start[name], before[name]) == kept, name
    assert (start["4.weight"] == 1).all() and (start["4.running_mean"] == 0).all()
    assert start["4.num_batches_tracked"] == 0
    assert calls[0]["moving"] == {"3.weight", "3.bias", "4.weight", "4.bias", "7.weight", "7.bias"}

    after = tiny.weights(amnesty.unlearn(task, EUk(epochs=2, batch_size=27)).model)
    assert all(torch.equal(after[name], before[name]) for name in before if name.split(".")[0] in ("0", "1"))
    assert after["4.num_batches_tracked"] == 8 and not torch.equal(after["4.running_mean"], start["4.running_mean"])


def test_one_pass_trains_at_the_full_rate():
    history = amnesty.unlearn(tiny.task(deep_mlp()), EUk(epochs=1)).history
    assert {r["lr"] for r in history} == {0.01} and EUk().epochs == 30


def test_what_must_not_move_is_not_renewed():
    task = tiny.task(deep_mlp())
    task.model[3].weight.requires_grad_(False)
    mask = torch.rand(3, 8) < 0.5
    found = amnesty.unlearn(task, EUk(epochs=1), masks={"5.weight": mask}).model
    assert torch.equal(found[3].weight, task.model[3].weight)
    assert torch.equal(found[5].weight[~mask], task.model[5].weight[~mask])
    assert (found[5].weight != task.model[5].weight)[mask].all()


def test_a_share_of_the_weights_is_one_of_the_original_and_holds_through_renewal():
    task = tiny.task(deep_mlp())
    found = amnesty.unlearn(task, EUk(epochs=1, saliency=0.2)).model
    assert only_before_training(task, EUk(saliency=0.2))[1][0]["masks"] == {}  # no second one, of the renewed model
    mask = amnesty.weights.saliency(task.model, task.parts["forget"], 0.2)
    for name, p in task.model.named_parameters():
        assert torch.equal(found.get_parameter(name)[~mask[name]], p[~mask[name]])
    assert any((found.get_parameter(name) != p)[mask[name]].any() for name, p in task.model.named_parameters())


def test_impossible_settings_are_refused():
    with pytest.raises(InvalidInputError, match="`batch_norm` must be 'train' or 'retain_stats'"):
        EUk(batch_norm="eval")
    with pytest.raises(InvalidInputError, match="`stages` must be at most 2"):
        amnesty.unlearn(tiny.task(two_convs()), EUk(stages=3))
