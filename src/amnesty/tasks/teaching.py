"""Objectives that compare a student with a frozen teacher."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError
from amnesty.tasks.base import Loss, device_of, to_device
from amnesty.tasks.labelled import logits, unpack
from amnesty.tasks.objectives import Objective, Seen


def frozen(model: nn.Module) -> nn.Module:
    """Return a copy that never changes: evaluation mode, nothing requires a gradient."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, *, squared: bool = False) -> Tensor:
    """Return ``KL(softmax(teacher / T) || softmax(student / T))`` of logits, shape [B, C], for each example.

    With ``squared`` it is multiplied by T squared, which keeps the gradient's length over temperatures (Hinton et
    al. 2015, arXiv:1503.02531). The mean over the batch is PyTorch's ``"batchmean"``.

    Raises:
        InvalidInputError: the temperature is not positive.

    >>> divergence(torch.zeros(1, 2), torch.zeros(1, 2)).item()
    0.0
    """
    if not temperature > 0:
        raise InvalidInputError(f"`temperature` must be positive, found {temperature}.")
    both = ((x.float() / temperature).log_softmax(dim=1) for x in (student, teacher))
    each = F.kl_div(next(both), next(both), reduction="none", log_target=True).sum(dim=1)
    return each * temperature**2 if squared else each


def imitated(teacher: nn.Module, temperature: float = 1.0, *, squared: bool = False) -> Objective:
    """Return the `divergence` from a frozen teacher; times -1 (in a `blend`) it leads away from it."""

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        return divergence(seen.logits, _said(teacher, seen.inputs), temperature, squared=squared)

    return objective


def as_unsure(teacher: nn.Module) -> Objective:
    """Return the squared difference of the student's and a frozen teacher's entropies (nats)."""

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        return (_entropy(seen.logits) - _entropy(_said(teacher, seen.inputs))).square()

    return objective


def contrasted(temperature: float) -> Loss:
    """Return the loss that makes each forget example equally like all retain examples, on pairs of batches.

    ``-mean_ij log softmax_j(z_i . z_j / T)``, the z being logits of the forget batch and, without gradient, of the
    retain batch; its minimum is the logarithm of the retain batch's size.

    Raises:
        InvalidInputError: the temperature is not positive.
    """
    if not temperature > 0:
        raise InvalidInputError(f"`temperature` must be positive, found {temperature}.")

    def loss(model: nn.Module, batches: Any, generator: torch.Generator) -> Tensor:
        forget, retain = (unpack(batch)[0] for batch in to_device(batches, device_of(model)))
        mine = logits(model(forget))
        with torch.no_grad():
            others = logits(model(retain))
        return -(mine.float() @ others.float().T / temperature).log_softmax(dim=1).mean()

    return loss


def _said(teacher: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return logits(teacher(inputs))


def _entropy(logits: Tensor) -> Tensor:
    each = logits.float().log_softmax(dim=1)
    return -(each.exp() * each).sum(dim=1)
