"""What a player may want of a classifier: one number per example, computed from its logits.

An objective sees logits, so one forward pass serves several of them, on mixed batches too; `Mean` and `Mixed` make
a player's loss of objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.tasks.base import device_of, to_device
from amnesty.tasks.labelled import logits, unpack


@dataclass(frozen=True)
class Seen:
    """A batch and what the model says of it: inputs, shape [B, ...], labels, shape [B], logits, shape [B, C]."""

    inputs: Tensor
    labels: Tensor
    logits: Tensor

    def only(self, where: Tensor) -> Seen:
        """Return the examples at which ``where``, bool, shape [B], is True."""
        return Seen(self.inputs[where], self.labels[where], self.logits[where])


Objective = Callable[[Seen, torch.Generator], Tensor]
"""Maps a batch and a generator (for labels and noise) to one loss per example, shape [B]."""


@dataclass(frozen=True)
class Mean:
    """A player's loss: the mean of an objective over a labelled batch."""

    objective: Objective

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss."""
        inputs, labels = unpack(to_device(batch, device_of(model)))
        return self.objective(Seen(inputs, labels, logits(model(inputs))), generator).mean()


@dataclass(frozen=True)
class Accompanied:
    """A player's loss on the first of two batches, which pass through the network together.

    Batch norm in training mode normalises a batch by itself. A batch of nothing but one class then looks average to
    the network, whatever that class is like among others, and what is learnt on it does not hold in evaluation mode.
    Company keeps the statistics near those of evaluation.
    """

    objective: Objective

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss: the mean over the first batch."""
        (inputs, labels), (company, _) = (unpack(one) for one in to_device(batch, device_of(model)))
        said = logits(model(torch.cat([inputs, company])))[: len(inputs)]
        return self.objective(Seen(inputs, labels, said), generator).mean()


@dataclass(frozen=True)
class Mixed:
    """A player's loss on a batch of `amnesty.data.Together`: one forward pass, an objective for each origin.

    The mean is over all examples, whichever their origin.
    """

    objectives: Sequence[Objective]

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss."""
        examples, origin = to_device(batch, device_of(model))
        inputs, labels = unpack(examples)
        seen = Seen(inputs, labels, logits(model(inputs)))
        each = []
        for k, objective in enumerate(self.objectives):
            mine = origin == k
            if mine.any():
                each.append(objective(seen.only(mine), generator))
        return torch.cat(each).mean()


def truth(seen: Seen, generator: torch.Generator) -> Tensor:
    """Return the cross-entropy with the labels of the data."""
    return F.cross_entropy(seen.logits, seen.labels, reduction="none")


cross_entropy = Mean(truth)
"""Mean cross-entropy of a labelled batch: the loss of ordinary training."""


def weighted(classes: Tensor) -> Objective:
    """Return the cross-entropy in which each example counts by the weight of its class, shape [C].

    The mean over a batch is the weighted mean, as ``F.cross_entropy(weight=...)`` has it.
    """

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        weight = classes.to(seen.logits.device)[seen.labels]
        return truth(seen, generator) * weight / weight.mean().clamp(min=1e-12)

    return objective


def blend(*parts: tuple[float, Objective]) -> Objective:
    """Return a weighted sum of objectives, each given as ``(weight, objective)``."""

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        return torch.stack([weight * part(seen, generator) for weight, part in parts]).sum(dim=0)

    return objective
