"""Kinked functions are found in the graph of a loss, smooth ones are not."""

import pytest
import torch
from torch.nn import functional as F

from amnesty.bargaining.kinks import kinks

KINKED = {
    "Relu": F.relu,
    "Threshold": lambda x: F.threshold(x, 0.1, 0.2),
    "LeakyRelu": F.leaky_relu,
    "PreluKernel": lambda x: F.prelu(x, torch.tensor([0.2])),
    "RreluWithNoise": lambda x: F.rrelu(x, training=True),
    "Hardtanh": F.relu6,
    "Hardswish": F.hardswish,
    "Hardsigmoid": F.hardsigmoid,
    "Hardshrink": F.hardshrink,
    "Softshrink": F.softshrink,
    "Elu": F.selu,
    "Abs": lambda x: F.l1_loss(x, torch.zeros_like(x)),
    "Clamp": lambda x: x.clamp(0, 1),
    "ClampMin": lambda x: F.hinge_embedding_loss(x, -torch.ones_like(x)),
    "Max": lambda x: x.max(1).values,
    "Min": torch.min,
    "Amax": lambda x: x.amax(1),
    "Amin": lambda x: x.amin(1),
    "Aminmax": lambda x: x.aminmax().max,
    "Maximum": lambda x: torch.max(x, -x),
    "Minimum": lambda x: torch.minimum(x, -x),
    "Fmax": lambda x: torch.fmax(x, -x),
    "Cummax": lambda x: x.cummax(0).values,
    "MaxPool2DWithIndices": lambda x: F.max_pool2d(x, 2),
    "MaxPool3DWithIndices": lambda x: F.max_pool3d(x, 2),
    "AdaptiveMaxPool2D": lambda x: F.adaptive_max_pool2d(x, 2),
    "Sort": lambda x: x.sort().values,
    "Topk": lambda x: x.topk(2).values,
    "Median": torch.median,
    "MultiMarginLoss": lambda x: F.multi_margin_loss(x[:, :, 0, 0], torch.tensor([0, 1])),
}
SMOOTH = [
    F.silu, F.gelu, F.softplus, F.mish, F.elu, F.celu, F.glu, F.logsigmoid, F.tanhshrink, torch.tanh, torch.sigmoid,
    lambda x: F.celu(x, 2.0), lambda x: x.softmax(1), lambda x: x.logsumexp(1), lambda x: F.dropout(x, 0.5),
    lambda x: F.batch_norm(x, None, None, training=True), lambda x: F.group_norm(x, 2), lambda x: F.avg_pool2d(x, 2),
    lambda x: F.cross_entropy(x[:, :, 0, 0], torch.tensor([0, 1])),
    lambda x: F.smooth_l1_loss(x, torch.zeros_like(x)),
    lambda x: x.masked_fill(torch.ones(2, 4, 8, 8, dtype=torch.bool).tril(), 0.0), lambda x: x.norm(),
]  # fmt: skip


def inputs():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize(("name", "function"), KINKED.items(), ids=KINKED)
def test_kinked_functions_are_found(name, function):
    assert name in kinks(function(inputs().tanh()).exp().sum())


@pytest.mark.parametrize("function", SMOOTH)
def test_smooth_functions_are_not(function):
    assert kinks(function(inputs().tanh()).exp().sum()) == []
