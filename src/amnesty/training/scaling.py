"""Weights that learn faster or slower than others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from amnesty.errors import UnknownNameError
from amnesty.training.hooks import Hook


def scale_gradients(model: nn.Module, factors: Mapping[str, Tensor]) -> Hook:
    """Multiply the update before the optimiser sees it; weight decay, which the optimiser adds, is not touched.

    Args:
        model: that is trained.
        factors: name of a parameter -> tensor of its shape; parameters without one keep theirs.

    Raises:
        UnknownNameError: there is no parameter of a name given.
    """
    parameters = dict(model.named_parameters())
    for name in factors.keys() - parameters.keys():
        raise UnknownNameError("parameter", name, parameters)

    def before_step() -> None:
        for name, factor in factors.items():
            gradient = parameters[name].grad
            if gradient is not None:
                gradient.mul_(factor)

    return Hook(before_step=before_step)
