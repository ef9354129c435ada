"""Things that happen between the parts of a step, for methods that do more than bargain and step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Hook:
    """Functions that a run calls; each may be absent.

    Attributes:
        start_epoch: before each pass, with its number in this run, from 1.
        before_step: the update is in ``p.grad`` and may be changed there; clipping follows.
        after_step: the optimiser has stepped; masked coordinates are put back afterwards.
        end_epoch: after each pass, with its number in this run.
        state: what the hook knows beyond what it was made with, for a checkpoint; numbers, texts and tensors, in
            lists, tuples and mappings. A hook that remembers nothing from step to step has none.
        restore: gets that state, in a hook that was made as this one was.
    """

    start_epoch: Callable[[int], object] | None = None
    before_step: Callable[[], object] | None = None
    after_step: Callable[[], object] | None = None
    end_epoch: Callable[[int], object] | None = None
    state: Callable[[], Any] | None = None
    restore: Callable[[Any], object] | None = None


def shrink(model: nn.Module, strength: Callable[[int], float]) -> Hook:
    """Add the gradient of ``strength(epoch) * sum |theta|`` over all trainable parameters (epochs from 1)."""
    now = [0.0]

    def before_step() -> None:
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad and now[0]:
                    _add(p, p.sign(), now[0])

    return Hook(
        start_epoch=lambda epoch: now.__setitem__(0, strength(epoch)),
        before_step=before_step,
        state=lambda: now[0],
        restore=lambda found: now.__setitem__(0, found),
    )


def pull_back(model: nn.Module, strength: float) -> Hook:
    """Add the gradient of ``strength / 2 * |theta - theta_0|^2``, theta_0 being the weights at this moment."""
    first = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    def before_step() -> None:
        with torch.no_grad():
            for p, start in first:
                if p.requires_grad:
                    _add(p, p - start, strength)

    return Hook(before_step=before_step)


def _add(p: Tensor, change: Tensor, factor: float) -> None:
    if p.grad is None:
        p.grad = torch.zeros_like(p)
    p.grad.add_(change, alpha=factor)
