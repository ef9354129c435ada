import torch
from torch import nn

from amnesty.weights.rounding import through_half


def net() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) / 3)
    return model


def halves(model):
    floats = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    return {name for name, value in floats.items() if torch.equal(value, value.half().float())}


def test_layers_are_rounded_and_norms_stay():
    model = net()
    norm = {name: value.clone() for name, value in model[1].state_dict().items()}
    through_half(model)
    assert halves(model) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert all(torch.equal(value, norm[name]) for name, value in model[1].state_dict().items())


def test_a_faithful_cast_rounds_everything_but_counts():
    model = net()
    model[1].num_batches_tracked.fill_(100_001)
    through_half(model, faithful=True)
    assert halves(model) >= {"1.weight", "1.bias", "1.running_mean", "1.running_var"}
    assert model[1].num_batches_tracked == 100_001


def test_what_is_too_large_stays_finite_and_what_is_frozen_stays():
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1e6], [-1e6]]))
        model.bias.fill_(1 / 3)
    model.bias.requires_grad_(False)
    through_half(model, faithful=True)
    assert model.weight.flatten().tolist() == [65504.0, -65504.0]
    assert torch.equal(model.bias, torch.full((2,), 1 / 3))
