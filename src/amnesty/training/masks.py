"""Coordinates that must not move, whatever the optimiser does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amnesty.errors import ShapeError, UnknownNameError

Masks = Mapping[str, Tensor]
"""Name of a parameter -> bool tensor of its shape, True where it may move. Parameters without one may."""


def check_masks(model: nn.Module, masks: Masks) -> None:
    """Raise unless every mask fits a parameter of the model.

    Raises:
        UnknownNameError: there is no parameter of that name.
        ShapeError: a mask is not bool or has another shape.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters:
            raise UnknownNameError("parameter", name, parameters)
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise ShapeError(
                f"The mask of {name!r} must be a bool tensor of shape {list(parameters[name].shape)}, found "
                f"{mask.dtype} of shape {list(mask.shape)}."
            )


class FrozenCoordinates:
    """Keeps masked-out coordinates at their first value, to the bit, through any `torch.optim` optimiser.

    Masking the gradient is not enough: weight decay and momentum act inside the step. (At lr 0.013, weight
    decay 5e-4, momentum 0.9 and 1,770 steps, every masked-out weight shrinks by a tenth.) After each step
    the weights are put back and the optimiser's state (every tensor of the parameter's shape) is masked.

    Args:
        model: whose parameters are stepped.
        masks: see `Masks`.

    Raises:
        UnknownNameError, ShapeError: as `check_masks`.
    """

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        check_masks(model, masks)
        parameters = dict(model.named_parameters())
        self._held = [(parameters[n], m, parameters[n].detach().clone()) for n, m in masks.items()]

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the frozen coordinates back; call it after every ``optimizer.step()``."""
        for parameter, mask, first in self._held:
            parameter.copy_(torch.where(mask, parameter, first))
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.mul_(mask)
