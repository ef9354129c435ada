"""Weights as half precision would have them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amnesty.weights.parts import norm_parameters


@torch.no_grad()
def through_half(model: nn.Module, *, faithful: bool = False) -> None:
    """Round the trainable weights to float16 and back, in place; what is too large becomes the largest of them.

    Args:
        model: changed in place.
        faithful: round norm layers and all float buffers too, running statistics among them, as casting the whole
            model does. Their small variances lose most there.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 1 + 2**-12)
    >>> through_half(model)
    >>> model.weight.item()
    1.0
    """
    kept = set() if faithful else norm_parameters(model)
    rounded: list[Tensor] = [p for name, p in model.named_parameters() if p.requires_grad and name not in kept]
    rounded += [buffer for buffer in model.buffers() if faithful and buffer.is_floating_point()]
    largest = torch.finfo(torch.float16).max
    for tensor in rounded:
        tensor.copy_(tensor.clamp(-largest, largest).half())
