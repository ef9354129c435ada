import pytest
import torch
from torch import nn

from amnesty.errors import ModelError, ShapeError, UnknownNameError
from amnesty.weights.measuring import count_examples, measuring, trainable, wide
from tests import tiny
from tests.weights import zoo


class Counting(nn.Module):
    """Writes to its buffers in evaluation mode too, in place and by replacing them, and draws noise."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("total", torch.zeros(()))
        self.layer = nn.Linear(36, 3)

    def forward(self, x):
        self.calls += 1
        self.total = self.total + x.sum()
        return self.layer(x.flatten(1) + torch.randn(()))


def test_buffers_noise_and_modes_are_as_before():
    model = Counting()
    total = model.total
    with zoo.untouched(model), measuring(model):
        model(torch.ones(2, 1, 6, 6))
        assert model.calls == 1 and not model.training
    assert model.total is total


def test_noise_follows_the_seed():
    model, drawn = Counting(), []
    for seed in (0, 0, 1):
        with measuring(model, seed):
            drawn.append(model(torch.zeros(1, 36)))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_buffers_that_nobody_wrote_to_can_still_be_differentiated_through():
    model = zoo.residual()
    loss = model(torch.randn(2, 1, 6, 6)).sum()
    with measuring(model):
        model(torch.randn(2, 1, 6, 6))
    loss.backward()


def test_an_error_leaves_no_trace():
    model = Counting()
    with zoo.untouched(model), pytest.raises(RuntimeError), measuring(model):
        model(torch.ones(2, 7))


def test_autocast_and_gradients_are_off():
    model = tiny.mlp()
    with torch.autocast("cpu", torch.bfloat16), measuring(model):
        found = model(torch.randn(2, 36))
    assert found.dtype == torch.float32 and not found.requires_grad


def test_trainable():
    model = tiny.mlp()
    model[3].bias = model[1].bias = nn.Parameter(torch.zeros(3))
    model[3].weight.requires_grad_(False)
    assert list(trainable(model)) == ["1.weight", "1.bias"]
    assert list(trainable(model, ["3.weight", "1.bias"])) == ["1.bias"]
    with pytest.raises(UnknownNameError, match="Did you mean '1.bias'"):
        trainable(model, ["1.bais"])
    with pytest.raises(ModelError, match="None of 1 parameters"):
        trainable(model, ["3.weight"])


@pytest.mark.parametrize(("given", "found"), [("half", "float32"), ("bfloat16", "float32"), ("double", "float64")])
def test_wide(given, found):
    assert wide(torch.zeros(1, dtype=getattr(torch, given))).dtype == getattr(torch, found)


def test_count_examples():
    batch = {"text": ["a", "b"], "pixels": [torch.zeros(7, 2)]}
    assert count_examples((torch.zeros(5, 1), torch.zeros(9))) == 5 and count_examples(batch) == 7
    for bad in ("abc", [], torch.zeros(())):
        with pytest.raises(ShapeError, match="Cannot count"):
            count_examples(bad)
