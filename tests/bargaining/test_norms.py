"""Batch norm with a fast second derivative gives what PyTorch's gives."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.bargaining.norms import FusedBatchNorm


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everything(fast, shape, affine=True, half=False):
    """The loss, gradients, products with second derivatives and statistics of a batch norm in training mode."""
    module = (nn.BatchNorm1d if len(shape) < 4 else nn.BatchNorm2d)(shape[1], affine=affine).double()
    x = draw(*shape).mul(3).add(1).requires_grad_()
    if affine:
        with torch.no_grad():
            module.weight.copy_(draw(shape[1], seed=1))
            module.bias.copy_(draw(shape[1], seed=2))
    moving = [x, *module.parameters()]
    with FusedBatchNorm() if fast else nullcontext():
        loss = (module(x).tanh().square() * draw(*shape, seed=3)).sum()
        first = torch.autograd.grad(loss, moving, create_graph=True)
        second = torch.autograd.grad(first, moving, [draw(*g.shape, seed=4) for g in first])
    return [loss, *first, *second, module.running_mean, module.running_var]


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (9, 5), (4, 3, 7), (1, 2, 2, 1)])
def test_it_gives_what_pytorch_gives(shape):
    for fast, slow in zip(everything(True, shape), everything(False, shape), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


def test_its_second_derivative_passes_gradgradcheck():
    x, weight, bias = (draw(*shape, seed=k).requires_grad_() for k, shape in enumerate([(5, 3, 2), (3,), (3,)]))

    def norm(x, weight, bias):
        with FusedBatchNorm():
            return F.batch_norm(x, None, None, weight, bias, True)

    assert "BatchNormBackward" in norm(x, weight, bias).grad_fn.name()
    assert "Native" not in norm(x, weight, bias).grad_fn.name()
    assert torch.autograd.gradcheck(norm, (x, weight, bias)) and torch.autograd.gradgradcheck(norm, (x, weight, bias))


@pytest.mark.parametrize("change", ["eval", "no weights", "bfloat16", "no gradient"])
def test_what_it_is_not_made_for_goes_pytorchs_way(change):
    module = nn.BatchNorm1d(3, affine=change != "no weights").train(change != "eval")
    x = draw(6, 3).to(torch.bfloat16 if change == "bfloat16" else torch.float32).requires_grad_()
    expected = module(x)
    with FusedBatchNorm(), torch.set_grad_enabled(change != "no gradient"):
        found = module(x)
    assert torch.equal(found, expected)
    assert found.grad_fn is None if change == "no gradient" else found.grad_fn.name() == expected.grad_fn.name()


def test_one_number_in_a_channel_is_refused_as_by_pytorch():
    with FusedBatchNorm(), pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(3)(torch.randn(1, 3, requires_grad=True))


def test_a_third_derivative_is_refused_rather_than_wrong():
    x, weight, bias = draw(5, 3).requires_grad_(), torch.ones(3).double().requires_grad_(), torch.zeros(3).double()
    with FusedBatchNorm():
        loss = F.batch_norm(x, None, None, weight, bias.requires_grad_(), True).pow(3).sum()
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        second.sum().backward()
