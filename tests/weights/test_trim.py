import math

import pytest
import torch
from torch import nn

from amnesty.errors import InvalidInputError, ModelError, UnknownNameError
from amnesty.weights import dataset_gradient, norm_parameters, snip_trim, stages
from tests import tiny
from tests.weights import zoo


def trimmed(model: nn.Module, before: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: p.detach() != before[name] for name, p in model.named_parameters()}


def scores(model: nn.Module, data, **settings) -> dict[str, torch.Tensor]:
    steep = dataset_gradient(model, data, absolute=True, **settings)
    return {name: (p * steep[name]).abs().detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("scope", ["all", "eligible"])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.3, 1.0])
def test_renews_the_highest_scores_of_those_eligible(share, scope):
    model, data = zoo.residual(), zoo.examples(20)
    names = sum(stages(model, data.images)[2:], ())
    eligible = [name for name in names if name not in norm_parameters(model)]
    before, score = tiny.weights(model), scores(model, data, batches=1, seed=0)
    with zoo.untouched(model, weights=False):
        found = snip_trim(model, data, share, names=names, scope=scope)
    ranked = torch.cat([score[name].flatten() for name in (score if scope == "all" else eligible)])
    threshold = ranked.sort(descending=True).values[math.floor(share * len(ranked)) - 1] if share else math.inf
    assert found.keys() == set(eligible)
    for name, changed in trimmed(model, before).items():
        chosen = (score[name] >= threshold) & (score[name] > 0) if name in eligible else torch.zeros_like(changed)
        assert torch.equal(changed, chosen), name
        if name in eligible:
            assert found[name] == pytest.approx(chosen.double().mean().item())


def test_norms_of_shortcuts_never_change():
    # Acceptance test 8: the published test by name lets `layer1.0.shortcut.1` through.
    model = zoo.residual()
    before = tiny.weights(model)
    assert snip_trim(model, zoo.examples(20), 1.0)["fc.weight"] > 0.9
    after = tiny.weights(model)
    kept = [name for name in before if name in norm_parameters(model) or "running" in name or "num_batches" in name]
    assert len(kept) == 45 and all(torch.equal(before[name], after[name]) for name in kept)


def test_new_weights_are_uniform_and_biases_zero():
    model = tiny.mlp()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(10)
    snip_trim(model, zoo.examples(20), 1.0)
    assert not model[1].bias.any() and not model[3].bias.any()
    assert model[1].weight.abs().max() <= 1 / 6 and model[3].weight.abs().max() <= 1 / 4


def test_more_batches_change_the_scores():
    found = []
    for batches in (1, 2, None):
        model, data = tiny.mlp(), zoo.examples(20)
        before, score = tiny.weights(model), scores(model, data, batch_size=7, batches=batches, seed=4)
        snip_trim(model, data, 0.1, batches=batches, batch_size=7, seed=4)
        changed = trimmed(model, before)
        chosen, left = (torch.cat([score[n][changed[n] == yes] for n in score]) for yes in (True, False))
        assert len(chosen) and chosen.min() >= left.max()
        found.append(changed)
    assert not all(torch.equal(found[0][n], found[2][n]) for n in found[0])


def test_follows_the_seed():
    drawn = []
    for seed in (0, 0, 1):
        model = tiny.conv_net()
        snip_trim(model, zoo.examples(20), 0.3, seed=seed)
        drawn.append(tiny.weights(model))
    assert tiny.same(drawn[0], drawn[1]) and not tiny.same(drawn[0], drawn[2])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_scores_mean_that_nothing_is_trimmed(value):
    model = nn.Linear(1, 2, bias=False)
    data = zoo.examples(4, classes=1, side=1)
    data.images.fill_(1.0)
    model = nn.Sequential(nn.Flatten(), model)
    nn.init.constant_(model[1].weight, value)
    assert snip_trim(model, data, 0.5) == {"1.weight": 0.0}
    assert model[1].weight.flatten().tolist() == [value] * 2


def test_weights_that_do_not_matter_are_never_trimmed():
    model = zoo.transformer()
    found = snip_trim(model, zoo.examples(8), 1.0)
    assert found["spare.weight"] == 0 and found["head.weight"] == 1


def test_frozen_parameters_neither_change_nor_count():
    model = tiny.mlp()
    model[1].weight.requires_grad_(False)
    before = model[1].weight.clone()
    found = snip_trim(model, zoo.examples(20), 0.5)
    assert "1.weight" not in found and torch.equal(model[1].weight, before)
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    count = sum(found[n] * p.numel() for n, p in model.named_parameters() if n in found)
    assert count == pytest.approx(math.floor(0.5 * total))


def test_nothing_eligible():
    model = zoo.residual()
    assert snip_trim(model, zoo.examples(8), 0.5, names=["bn1.weight"]) == {}
    assert snip_trim(model, zoo.examples(8), 0.5, names=["bn1.weight"], scope="eligible") == {}


def test_refuses_before_anything_changes():
    model, data = tiny.mlp(), zoo.examples(8)
    before = tiny.weights(model)
    with pytest.raises(InvalidInputError, match="`scope` must be one of all, eligible"):
        snip_trim(model, data, 0.5, scope="some")
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidInputError, match="`share`"):
            snip_trim(model, data, share)
    with pytest.raises(UnknownNameError):
        snip_trim(model, data, 0.5, names=["nothing"])
    assert tiny.same(tiny.weights(model), before)
    with pytest.raises(ModelError, match="None of 4"):
        snip_trim(model.requires_grad_(False), data, 0.5)
