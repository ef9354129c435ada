"""Ordinary training, for originals and for models retrained without the forget set."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from amnesty.bargaining import Sum
from amnesty.errors import InvalidInputError, ModelError
from amnesty.seeds import derive, seeded
from amnesty.tasks import Role, Source, cross_entropy, device_of
from amnesty.training.loop import Loop
from amnesty.training.progress import Watch
from amnesty.training.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a classifier is trained from scratch: SGD with momentum. The same for an original and its retraining.

    Args:
        lr: learning rate. epochs: passes over the data. batch_size: examples in a batch.
        momentum: of SGD. weight_decay: L2 on all parameters. schedule: of the learning rate.

    Raises:
        InvalidInputError: ``lr`` is not positive.
    """

    lr: float = 0.1
    epochs: int = 30
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise InvalidInputError(f"`lr` must be positive, found {self.lr}.")

    def run(self, loop: Loop, role: Role) -> None:
        """Train ``loop.model`` in place on the part and loss of ``role``."""
        loop.run(
            {role.part: role},
            optimizer=lambda parameters, steps: torch.optim.SGD(
                parameters, self.lr, self.momentum, weight_decay=self.weight_decay
            ),
            epochs=self.epochs,
            rule=Sum(),
            batch_size=self.batch_size,
            schedule=self.schedule,
            retaining=(role.part,),
        )


def train(model: nn.Module, data: Source, recipe: Recipe, *, seed: int = 0, watch: Watch | None = None) -> nn.Module:
    """Return a copy of ``model``, initialised afresh and trained on ``data`` by ``recipe``.

    Raises:
        ModelError: a parameter cannot be initialised afresh; see `reinitialised`.
    """
    fresh = reinitialised(model, seed)
    with seeded(seed, device_of(fresh)):
        recipe.run(Loop(fresh, {"train": data}, seed, watch=watch), Role("train", cross_entropy))
    return fresh.eval()


def reinitialised(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy whose every parameter and buffer is as new, by its module's own ``reset_parameters``.

    Raises:
        ModelError: a module holds parameters of its own but no ``reset_parameters``; give a function that
            makes a new model instead.
    """
    fresh = copy.deepcopy(model)
    stuck = [
        name or type(module).__name__
        for name, module in fresh.named_modules()
        if list(module.parameters(recurse=False)) and not hasattr(module, "reset_parameters")
    ]
    if stuck:
        raise ModelError(
            f"Cannot initialise {', '.join(stuck[:5])} afresh: no `reset_parameters`. Add that method, or pass "
            "`Retrain(fresh=...)` a function that makes a new model."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "initialisation"))
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return fresh
