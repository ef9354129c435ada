"""Functions whose slope jumps, found in the graph of a loss."""

from __future__ import annotations

import re

from torch import Tensor
from torch.autograd.graph import Node

from amnesty.bargaining.checks import nodes

# Names of autograd nodes without "Backward0". Not in it: functions that are constant where they do not jump
# (round, floor), and `where`, which is as often a mask as a kink.
_KINKED = {
    *("Relu", "Threshold", "LeakyRelu", "Prelu", "PreluKernel", "RreluWithNoise", "Hardtanh", "Hardswish"),
    *("Hardsigmoid", "Hardshrink", "Softshrink", "Abs", "Clamp", "ClampMin", "ClampMax", "Max", "Min", "Amax"),
    *("Amin", "Aminmax", "Maximum", "Minimum", "Fmax", "Fmin", "Cummax", "Cummin", "MaxPool2D"),
    *("MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D"),
    *("FractionalMaxPool2D", "FractionalMaxPool3D", "MkldnnMaxPool2D", "MkldnnMaxPool3D", "Sort", "Topk"),
    *("Kthvalue", "Median", "Nanmedian", "MultiMarginLoss", "MultilabelMarginLoss", "L1Loss"),
}


def kinks(loss: Tensor) -> list[str]:
    """Return the kinked functions behind ``loss``, as autograd calls them, sorted.

    Compiled code and autograd functions of one's own are opaque: kinks in them are not seen.

    >>> import torch
    >>> x = torch.randn(3, requires_grad=True)
    >>> kinks(x.relu().tanh().abs().sum()), kinks(torch.nn.functional.silu(x).sum())
    (['Abs', 'Relu'], [])
    """
    return sorted({name for node in nodes(loss) if (name := _function(node)) in _KINKED or _kinked_elu(node)})


def _function(node: Node) -> str:
    return re.sub(r"Backward\d*$", "", node.name())


def _kinked_elu(node: Node) -> bool:
    # ELU of alpha 1 and CELU have one slope at 0, SELU has two.
    if _function(node) != "Elu":
        return False
    alpha, scale = (float(getattr(node, f"_saved_{name}", 1.0)) for name in ("alpha", "input_scale"))
    return abs(alpha * scale - 1.0) > 1e-6
