"""Objectives of forgetting players."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError
from amnesty.tasks.labelled import logits
from amnesty.tasks.margins import excess, margins
from amnesty.tasks.objectives import Objective, Seen, truth

OTHERS = -1
"""Key of the margins that hold for every class without margins of its own; see `unseen_like`."""


def relabelled(pool: Tensor, exclude_true: bool) -> Objective:
    """Return cross-entropy with labels drawn anew for each batch from ``pool``; see `draw_labels`."""

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        labels = draw_labels(seen.labels, pool, exclude_true, generator)
        return F.cross_entropy(seen.logits, labels, reduction="none")

    return objective


def labelled_as(label: int) -> Objective:
    """Return cross-entropy with one label for all."""

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        return F.cross_entropy(seen.logits, torch.full_like(seen.labels, label), reduction="none")

    return objective


def ascended(cap: float | None = None) -> Objective:
    """Return minus the cross-entropy, of each example up to ``cap`` (nats).

    Raises:
        InvalidInputError: ``cap`` is not positive.
    """
    if cap is not None and not cap > 0:
        raise InvalidInputError(f"`cap` must be positive (nats), found {cap}.")

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        each = truth(seen, generator)
        return -(each if cap is None else each.clamp(max=cap))

    return objective


def uniform(seen: Seen, generator: torch.Generator) -> Tensor:
    """Return ``KL(u || p)`` from the uniform distribution ``u``, at least 0."""
    return -seen.logits.log_softmax(dim=1).mean(dim=1) - math.log(seen.logits.shape[1])


def unseen_like(unseen: Mapping[int, Tensor]) -> Objective:
    """Return the Huber loss (nats) of how far margins lie above those of unseen examples; see `excess`.

    Args:
        unseen: class -> margins of unseen examples, sorted, shape [m]; those of `OTHERS` are for all other classes.
    """
    own = torch.tensor([c for c in unseen if c != OTHERS], dtype=torch.int64)

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        labels = seen.labels
        found = margins(seen.logits.float(), labels)
        over = torch.zeros_like(found)
        for key, target in unseen.items():
            mine = ~torch.isin(labels, own.to(labels.device)) if key == OTHERS else labels == key
            if mine.any():
                over = over.masked_scatter(mine, excess(found[mine], target.to(found.device)))
        return F.huber_loss(over, torch.zeros_like(over), reduction="none")

    return objective


def nearest_wrong(
    teacher: nn.Module, radius: float, mean: Tensor | float = 0.0, deviation: Tensor | float = 1.0
) -> Objective:
    """Return cross-entropy with the nearest wrong class: where one step of FGSM leads the frozen ``teacher``.

    Pixels are ``inputs * deviation + mean``, in [0, 1]. They are moved by ``radius`` along the sign of the
    cross-entropy's gradient, clipped, and rounded to multiples of 1/255. The true class is never the answer.

    Source: Chen et al., Boundary Unlearning, CVPR 2023, arXiv:2303.11570, Section 3.2; its code takes the true class
    where the step does not cross a boundary.
    """

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        target = crossed(teacher, seen.inputs, seen.labels, radius, mean, deviation)
        return F.cross_entropy(seen.logits, target, reduction="none")

    return objective


def crossed(
    teacher: nn.Module, inputs: Tensor, labels: Tensor, radius: float, mean: Tensor | float, deviation: Tensor | float
) -> Tensor:
    """Return the wrong class that ``teacher`` finds likeliest after FGSM, shape [B]; see `nearest_wrong`."""
    mean, deviation = (torch.as_tensor(x, dtype=inputs.dtype, device=inputs.device) for x in (mean, deviation))
    with torch.enable_grad():
        probe = inputs.detach().clone().requires_grad_()
        loss = F.cross_entropy(logits(teacher(probe)), labels, reduction="sum")
        (slope,) = torch.autograd.grad(loss, probe)
    with torch.no_grad():
        pixels = (inputs * deviation + mean + radius * slope.sign()).clamp(0.0, 1.0)
        moved = ((pixels * 255).round() / 255 - mean) / deviation
        return logits(teacher(moved)).scatter(1, labels[:, None], -torch.inf).argmax(dim=1)


def draw_labels(labels: Tensor, pool: Tensor, exclude_true: bool, generator: torch.Generator) -> Tensor:
    """Draw a label for each example uniformly from ``pool`` (sorted classes), shape [B], on the labels' device.

    Drawn on the CPU, so that a seed gives the same labels on every device. Raises `InvalidInputError` if no class
    is left to draw.
    """
    found = labels.cpu()
    place = torch.searchsorted(pool, found)
    skip = exclude_true & (pool[place.clamp(max=len(pool) - 1)] == found)
    choices = len(pool) - skip.long()
    if (choices < 1).any():
        raise InvalidInputError("Only one class is kept: there is no other label to give to the forget set.")
    draw = (torch.rand(found.shape, generator=generator, dtype=torch.float64) * choices).long()
    return pool[draw + (skip & (draw >= place)).long()].to(labels.device)


def shifted_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image, shape [B, channels, H, W], by a random offset of up to an eighth of its side, mirrored edges.

    Raises `InvalidInputError` if the inputs are not images of at least 8 x 8.
    """
    if images.dim() != 4 or min(images.shape[2:]) < 8:
        raise InvalidInputError(
            f"Only images of at least 8 x 8 can be shifted, found inputs of {list(images.shape)}."
        )
    height, width = images.shape[2:]
    rows, columns = height // 8, width // 8
    padded = F.pad(images, (columns, columns, rows, rows), mode="reflect")
    down = torch.randint(0, 2 * rows + 1, (len(images), 1, 1), generator=generator) + torch.arange(height)[:, None]
    right = torch.randint(0, 2 * columns + 1, (len(images), 1, 1), generator=generator) + torch.arange(width)
    return padded.permute(0, 2, 3, 1)[torch.arange(len(images))[:, None, None], down, right].permute(0, 3, 1, 2)
