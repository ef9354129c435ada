"""Losses of forgetting players on labelled batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError
from amnesty.tasks.base import Loss
from amnesty.tasks.labelled import logits, unpack
from amnesty.tasks.margins import excess, margins

OTHERS = -1
"""Key of the margins that hold for every class without margins of its own; see `unseen_like`."""


def relabelled(pool: Tensor, exclude_true: bool) -> Loss:
    """Return cross-entropy with labels drawn anew for each batch from ``pool``; see `draw_labels`."""

    def loss(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        inputs, labels = unpack(batch)
        return F.cross_entropy(logits(model(inputs)), draw_labels(labels, pool, exclude_true, generator))

    return loss


def ascended(cap: float | None) -> Loss:
    """Return minus the cross-entropy, of each example up to ``cap`` (nats).

    Raises:
        InvalidInputError: ``cap`` is not positive.
    """
    if cap is not None and not cap > 0:
        raise InvalidInputError(f"`cap` must be positive (nats), found {cap}.")

    def loss(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        inputs, labels = unpack(batch)
        each = F.cross_entropy(logits(model(inputs)), labels, reduction="none")
        return -(each if cap is None else each.clamp(max=cap)).mean()

    return loss


def unseen_like(unseen: Mapping[int, Tensor]) -> Loss:
    """Return the Huber loss (nats) of how far margins lie above those of unseen examples; see `excess`.

    Args:
        unseen: class -> margins of unseen examples, sorted, shape [m]; those of `OTHERS` are for all other classes.
    """
    own = torch.tensor([c for c in unseen if c != OTHERS], dtype=torch.int64)

    def loss(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        inputs, labels = unpack(batch)
        found = margins(logits(model(inputs)).float(), labels)
        over = torch.zeros_like(found)
        for key, target in unseen.items():
            mine = ~torch.isin(labels, own.to(labels.device)) if key == OTHERS else labels == key
            if mine.any():
                over = over.masked_scatter(mine, excess(found[mine], target.to(found.device)))
        return F.huber_loss(over, torch.zeros_like(over))

    return loss


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
