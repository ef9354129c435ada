"""Ordinary training, for originals and for models retrained without the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from amnesty.bargaining import Sum
from amnesty.errors import InvalidInputError
from amnesty.seeds import seeded
from amnesty.tasks import Role, Source, count_classes, cross_entropy, device_of, inspect, unpack
from amnesty.training.loop import Loop
from amnesty.training.progress import Watch
from amnesty.training.schedules import Schedule
from amnesty.training.settings import Count, NotNegative, Positive, faults
from amnesty.weights import reinitialised


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a classifier is trained from scratch. The same for an original and its retraining.

    Args:
        lr: learning rate. epochs: passes over the data. batch_size: examples in a batch.
        optimizer: ``"sgd"``, or ``"adamw"``, which transformers want.
        momentum: of SGD; the first beta of AdamW. weight_decay: on all parameters. schedule: of the learning rate.

    Raises:
        InvalidInputError: settings out of range, all of them named at once.
    """

    lr: Positive = 0.1
    epochs: Count = 30
    batch_size: Count = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: NotNegative = 0.9
    weight_decay: NotNegative = 5e-4
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        wrong = faults(self)
        if wrong:
            raise InvalidInputError(f"Recipe: {'; '.join(wrong)}.")

    def run(self, loop: Loop, role: Role, **other: Any) -> None:
        """Train ``loop.model`` in place on the part and loss of ``role``, with ``other`` arguments of `Loop.run`."""
        settings: dict[str, Any] = {
            "optimizer": self._optimizer,
            "epochs": self.epochs,
            "rule": Sum(),
            "batch_size": self.batch_size,
            "schedule": self.schedule,
            "retaining": (role.part,),
        }
        loop.run({role.part: role}, **settings | other)

    def _optimizer(self, parameters: Any, steps: int) -> torch.optim.Optimizer:
        if self.optimizer == "adamw":
            return torch.optim.AdamW(parameters, self.lr, (self.momentum, 0.999), weight_decay=self.weight_decay)
        return torch.optim.SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay)


def train(model: nn.Module, data: Source, recipe: Recipe, *, seed: int = 0, watch: Watch | None = None) -> nn.Module:
    """Return a copy of ``model``, initialised afresh and trained on ``data`` by ``recipe``.

    Raises:
        DataError: inputs that are not finite or of different shapes, or labels outside the model's classes.
        ModelError: the model cannot take the data, or cannot be initialised afresh; see `reinitialised`.
    """
    fresh = reinitialised(model, seed)
    device = device_of(fresh)
    with seeded(seed, device):
        found = inspect("training", data, unpack)
        found.check_labels(count_classes(fresh, found))
    with seeded(seed, device):
        recipe.run(Loop(fresh, {"train": data}, seed, watch=watch), Role("train", cross_entropy))
    return fresh.eval()
