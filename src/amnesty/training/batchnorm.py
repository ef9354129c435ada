"""What batch norm may learn from the forget set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    """Put the model into training mode, and its batch norms into the mode of ``policy``."""
    model.train()
    if policy == "eval":
        for module in batch_norms(model):
            module.eval()


@contextmanager
def kept_statistics(modules: list[_BatchNorm]) -> Iterator[None]:
    """Leave the running statistics alone during a forward pass that normalises by its own batch."""
    tracked = [module for module in modules if module.training and module.track_running_stats]
    for module in tracked:
        module.track_running_stats = False  # in training mode this uses the batch and touches no buffer
    try:
        yield
    finally:
        for module in tracked:
            module.track_running_stats = True


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
