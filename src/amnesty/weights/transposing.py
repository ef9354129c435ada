"""Convolutions that see their images mirrored at the diagonal."""

from __future__ import annotations

import torch
from torch import nn

from amnesty.weights.measuring import owner_of


def transposable(model: nn.Module) -> list[str]:
    """Return the names of the kernels that can be transposed: trainable, of 2-d convolutions, square, above 1 x 1.

    Strides, paddings and dilations must be square too, or the transposed layer would be another one.
    """
    return [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and name.endswith("weight") and _square(owner_of(model, name)[0])
    ]


@torch.no_grad()
def transpose(model: nn.Module) -> None:
    """Swap height and width of every `transposable` kernel, in place. Twice is the identity."""
    parameters = dict(model.named_parameters())
    for name in transposable(model):
        parameters[name].copy_(parameters[name].transpose(2, 3).clone())


def _square(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or module.kernel_size[0] == 1:
        return False
    padding = () if isinstance(module.padding, str) else module.padding
    return all(len(set(pair)) < 2 for pair in (module.kernel_size, module.stride, padding, module.dilation))
