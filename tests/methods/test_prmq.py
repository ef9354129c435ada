import copy

import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty.data import Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods.prmq import PRMQ
from tests import tiny
from tests.methods.by_hand import by_hand, slope
from tests.methods.nets import deep_mlp, two_convs
from tests.methods.presteps import only_before_training


def test_it_is_weighted_training_with_matched_entropies_rounded_at_the_end():
    data = tiny.blobs()
    keep = [i for i in range(12, 120) if i % 3 != 1 or i % 4 == 0]
    parts = {name: Examples(data.images[i], data.labels[i]) for name, i in (("forget", range(12)), ("retain", keep))}
    task = amnesty.Classification(deep_mlp(), **parts)
    weight = torch.bincount(task.labels("retain"), minlength=3) ** -2.0
    settings = {"lr": 0.05, "epochs": 2, "momentum": 0.6, "weight_decay": 0.05, "schedule": "linear"}
    method = PRMQ(batch_size=20, prune=0.5, rare=2.0, last_pass=1.0, **settings)
    outcome = amnesty.unlearn(task, method, seed=3)
    start, _ = only_before_training(task, method, seed=3)

    def entropy(logits):
        return torch.distributions.Categorical(logits=logits).entropy()

    def direction(model, batches):
        images, labels = batches["retain"]
        gap = F.mse_loss(entropy(model(images)), entropy(task.model(images)).detach())
        return slope(model, F.cross_entropy(model(images), labels, weight=weight) + gap)

    # What has not been trained is rounded already.
    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, model=start, **settings)
    for p, q in zip(outcome.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q.half().float(), rtol=2e-3, atol=1e-5)


def test_one_percent_of_the_entries_of_linear_and_convolution_layers_are_kept():
    """Acceptance test 9."""
    task = tiny.task(two_convs())
    for module in (task.model[1], task.model[4]):
        module.weight.data.fill_(1e-9)
    model, _ = unrounded(task, PRMQ(prune=0.9))
    layers = {n for n, _ in model.named_parameters() if n.split(".")[0] in ("0", "3", "7")}
    old = torch.cat([task.model.get_parameter(n).flatten() for n in sorted(layers)])
    new = torch.cat([model.get_parameter(n).flatten() for n in sorted(layers)])
    largest = old.abs().topk(len(old) - int(0.9 * len(old))).indices
    assert set((old == new).nonzero()[:, 0].tolist()) == set(largest.tolist())
    for name, p in model.named_parameters():
        renewed = p != task.model.get_parameter(name)
        if name not in layers:
            assert not renewed.any()
        elif name.endswith("bias"):
            assert (p[renewed] == 0).all()
        else:
            bound = p[0].numel() ** -0.5
            assert (p[renewed].abs() <= bound).all() and p[renewed].abs().max() > 0.8 * bound


def unrounded(task, method):
    seen = []

    def keep(*args, **kwargs):
        seen.append(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amnesty.methods.prmq.through_half", keep)
        return only_before_training(task, method)


def test_by_default_99_of_100_are_pruned():
    task = tiny.task(two_convs())
    model, _ = unrounded(task, PRMQ())
    layers = [n for n, _ in model.named_parameters() if n.split(".")[0] in ("0", "3", "7")]
    kept = sum(int((model.get_parameter(n) == task.model.get_parameter(n)).sum()) for n in layers)
    total = sum(model.get_parameter(n).numel() for n in layers)
    assert kept == total - int(0.99 * total)


@pytest.mark.parametrize(("size", "steps"), [(27, 13), (11, 32)])
def test_it_makes_3_point_2_passes_and_not_a_step_more(size, steps):
    outcome = amnesty.unlearn(tiny.task(tiny.mlp()), PRMQ(batch_size=size))
    assert len(outcome.history) == steps and {r["lr"] for r in outcome.history} == {5e-4}


@pytest.mark.parametrize("faithful", [False, True])
def test_the_end_is_half_precision_but_for_norms_unless_faithful(faithful):
    model = amnesty.unlearn(tiny.task(two_convs()), PRMQ(faithful=faithful, lr=0.05)).model
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            norm = name.split(".")[0] in ("1", "4")
            assert torch.equal(value, value.half().float()) == (faithful or not norm), name


def test_a_class_that_is_forgotten_altogether_does_no_harm():
    data = tiny.blobs()
    parts = split(data, Classes([2])).parts(data)  # the last: counts of the others are shorter than C
    task = amnesty.Classification(tiny.mlp(), forget=parts["forget"], retain=parts["retain"])
    assert amnesty.unlearn(task, PRMQ(epochs=1)).history


def test_what_must_not_move_is_neither_renewed_nor_rounded():
    task = tiny.task(two_convs())
    task.model[3].requires_grad_(False)
    held = torch.rand(4, 1, 3, 3) < 0.5
    before = copy.deepcopy(task.model)
    found = amnesty.unlearn(task, PRMQ(epochs=1, faithful=True), masks={"0.weight": held}).model
    assert torch.equal(found[3].weight, before[3].weight) and torch.equal(found[3].bias, before[3].bias)
    assert torch.equal(found[0].weight[~held], before[0].weight[~held])


@pytest.mark.parametrize("given", [{"prune": 1.1}, {"last_pass": 0}, {"rare": -1}, {"faithful": 2}])
def test_settings_are_checked(given):
    with pytest.raises(InvalidInputError, match=f"`{next(iter(given))}` must be"):
        PRMQ(**given)
