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


def both(first: Masks, second: Masks) -> Masks:
    """Return masks that are True where both are."""
    shared = {name: first[name] & second[name] for name in first.keys() & second.keys()}
    return {**first, **second, **shared}


class FrozenCoordinates:
    """Keeps masked-out coordinates at their first value, to the bit, through any `torch.optim` optimiser.

    Masking the gradient is not enough: weight decay and momentum act inside the step. (At lr 0.013, weight
    decay 5e-4, momentum 0.9 and 1,770 steps, every masked-out weight shrinks by a tenth.) After each step
    the weights are put back and the optimiser's state (every tensor of the parameter's shape) is masked.

    Args:
        model: whose parameters are stepped.
        masks: see `Masks`.
        values: what the coordinates are held at, by name; by default what they are now.

    Raises:
        UnknownNameError, ShapeError: as `check_masks`.
    """

    def __init__(self, model: nn.Module, masks: Masks, values: Mapping[str, Tensor] | None = None) -> None:
        check_masks(model, masks)
        parameters = dict(model.named_parameters())
        self.values = values or {name: parameters[name].detach().clone() for name in masks}
        self._held = [(parameters[name], mask, self.values[name]) for name, mask in masks.items()]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the frozen coordinates back."""
        for parameter, mask, first in self._held:
            parameter.copy_(torch.where(mask, parameter, first))

    @torch.no_grad()
    def before_step(self) -> None:
        """Mask the gradients, for whoever added to them after the bargain, which masks its own."""
        for parameter, mask, _ in self._held:
            if parameter.grad is not None:
                parameter.grad.mul_(mask)

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the frozen coordinates back; call it after every ``optimizer.step()``."""
        self.restore()
        for parameter, mask, _ in self._held:
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.mul_(mask)
