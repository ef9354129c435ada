"""What batch norm may learn from the forget set."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormPolicy = Literal["train", "eval", "retain_stats"]
"""``"train"``: batch statistics, and running statistics that follow every batch fed, as published code has
it. ``"eval"``: running statistics are used and stay. ``"retain_stats"``: batch statistics, and running
statistics that follow the retaining players' batches only, so that the model is evaluated with the
statistics of what it keeps."""

BATCH_NORM_POLICIES: tuple[BatchNormPolicy, ...] = get_args(BatchNormPolicy)


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch-norm modules, found by type: names such as ``bn`` miss those of shortcuts."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def set_modes(model: nn.Module, policy: BatchNormPolicy) -> None:
    """Put the model into training mode, and its batch norms into the mode of ``policy``.

    A batch norm whose weights are all frozen stays in evaluation mode: it would not be frozen otherwise.
    """
    model.train()
    for module in batch_norms(model):
        own = list(module.parameters())
        if policy == "eval" or (own and not any(p.requires_grad for p in own)):
            module.eval()


class Statistics:
    """Lets running statistics follow some batches and not others, all of them normalised by themselves.

    Args:
        model: in the modes in which it is trained; see `set_modes`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [m for m in batch_norms(model) if m.training and m.track_running_stats]

    def follow(self, wanted: bool) -> None:
        """Say whether what is computed from now on, recomputed in a backward pass included, moves the statistics."""
        for module in self._modules:
            module.track_running_stats = wanted  # False, in training mode, uses the batch and touches no buffer


class BufferGuard:
    """Remembers a model's buffers, so that a failed step can be undone: NaN enters batch-norm statistics first."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers: list[Tensor] = list(model.buffers())
        self._copies = [b.clone() for b in self._buffers]

    def remember(self) -> None:
        """Copy the buffers as they are now."""
        for copy, buffer in zip(self._copies, self._buffers, strict=True):
            copy.copy_(buffer)

    def restore(self) -> None:
        """Write back what was remembered."""
        for copy, buffer in zip(self._copies, self._buffers, strict=True):
            buffer.copy_(copy)
