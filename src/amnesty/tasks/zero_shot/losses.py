"""What players may want of a model of two towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.data import input_and_label
from amnesty.tasks.base import Loss, device_of, to_device
from amnesty.tasks.labelled import unpack
from amnesty.tasks.objectives import Objective, Seen
from amnesty.tasks.teaching import divergence
from amnesty.tasks.zero_shot.classifier import ZeroShotClassifier


def among(classes: Sequence[int]) -> Objective:
    """Return the cross-entropy over some of the classes alone: the other prompts are not even pushed away."""

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        left_out = torch.ones(seen.logits.shape[1], dtype=torch.bool, device=seen.logits.device)
        left_out[torch.tensor(classes, device=left_out.device)] = False
        return F.cross_entropy(seen.logits.masked_fill(left_out, -torch.inf), seen.labels, reduction="none")

    return objective


def answers_of(original: nn.Module) -> Objective:
    """Return ``KL(original || student)`` among the class names, the original following its inputs' device."""

    def objective(seen: Seen, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            before = teacher(original, seen.inputs)(seen.inputs)
        return divergence(seen.logits, before)

    return objective


def repelled(seen: Seen, generator: torch.Generator) -> Tensor:
    """Return how far the logit of the label lies above the mean of the others, which is not moved; Huber, at least 0.

    An image is then no nearer to its class name than to any other word.
    """
    own = seen.logits.gather(1, seen.labels[:, None])[:, 0]
    others = (seen.logits.sum(dim=1) - own) / (seen.logits.shape[1] - 1)
    over = (own - others.detach()).clamp(min=0.0)
    return F.huber_loss(over, torch.zeros_like(over), reduction="none")


@dataclass(frozen=True)
class Contrastive:
    """The symmetric loss of CLIP on a batch of images and token ids; pairs with the same text are all positive.

    Source: Radford et al., arXiv:2103.00020, Figure 3; several positives as in Khosla et al., arXiv:2004.11362.
    """

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss."""
        assert isinstance(model, ZeroShotClassifier)
        inputs, ids = input_and_label(to_device(batch, device_of(model)))
        said = model.compare(model.image_features(inputs), model.text_features(ids))
        same = (ids[:, None] == ids[None]).all(dim=2).to(said.dtype)
        target = same / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(said, target) + F.cross_entropy(said.T, target)) / 2


@dataclass(frozen=True)
class Distilled:
    """``KL(original || student)`` of images among a bank of texts, on a labelled batch.

    It keeps what the model says of words that are no class of the task.

    Args:
        original: is asked on the same inputs.
        bank: token ids, shape [n, L].
        sample: texts of it that are drawn for a step.
    """

    original: nn.Module
    bank: Tensor
    sample: int = 64

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss."""
        assert isinstance(model, ZeroShotClassifier)
        inputs, _ = unpack(to_device(batch, device_of(model)))
        chosen = self.bank[torch.randperm(len(self.bank), generator=generator)[: self.sample]]
        with torch.no_grad():
            original = teacher(self.original, inputs)
            before = original.compare(original.image_features(inputs), original.text_features(chosen))
        now = model.compare(model.image_features(inputs), model.text_features(chosen))
        return divergence(now, before).mean()


@dataclass(frozen=True)
class SameFeatures:
    """``1 - cos`` of the image features and the original's, on a labelled batch."""

    original: nn.Module

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss."""
        assert isinstance(model, ZeroShotClassifier)
        inputs, _ = unpack(to_device(batch, device_of(model)))
        with torch.no_grad():
            before = teacher(self.original, inputs).image_features(inputs)
        return 1.0 - (model.image_features(inputs) * before).sum(dim=1).mean()


@dataclass(frozen=True)
class Added:
    """The sum of losses; those at ``beside`` get the second of two batches, the others the first.

    Args:
        losses: of the first batch, or of the only one. beside: of the second batch.
    """

    losses: Sequence[Loss]
    beside: Sequence[Loss] = ()

    def __call__(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """Return the scalar loss."""
        first, second = batch if self.beside else (batch, None)
        found = [loss(model, first, generator) for loss in self.losses]
        return torch.stack([*found, *(loss(model, second, generator) for loss in self.beside)]).sum()


def teacher(original: nn.Module, inputs: Tensor) -> ZeroShotClassifier:
    """Return the frozen original on the device of the inputs."""
    moved = original.to(inputs.device)
    assert isinstance(moved, ZeroShotClassifier)
    return moved
