"""What every domain gives to the rooms above: parts of the data, and the players' losses on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from amnesty.errors import InvalidInputError

Source = Dataset[Any] | DataLoader[Any]
"""Where a part of the data comes from."""

Loss = Callable[[nn.Module, Any, torch.Generator], Tensor]
"""Maps the model, one batch and a generator (for labels or noise) to a scalar loss."""


@dataclass(frozen=True)
class Role:
    """What a player wants: the loss that it lowers, and the part of the data that it sees.

    Args:
        part: ``"forget"``, ``"retain"``, or another part that the task has.
        loss: see `Loss`.
        beside: a second part; the loss then gets a pair of batches, one of each.
    """

    part: str
    loss: Loss
    beside: str | None = None


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter or buffer; the CPU for a model without any."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def usable_device(device: str | torch.device) -> torch.device:
    """Return the device of that name.

    Raises:
        InvalidInputError: PyTorch has no such device here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:  # torch built without CUDA asserts
        raise InvalidInputError(f"`device` {str(device)!r} cannot be used here: {error}") from error
    return torch.device(device)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor of a batch (tuples, lists and mappings of tensors)."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, without gradients, and back into the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # Not `inference_mode`: a model that keeps a table it made here could not be trained with it later.
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
