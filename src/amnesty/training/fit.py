"""Ordinary training, for originals and for models retrained without the forget set."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from amnesty.bargaining import Sum
from amnesty.errors import InvalidInputError, ModelError
from amnesty.seeds import derive, seeded
from amnesty.tasks import Role, Source, count_classes, cross_entropy, device_of, inspect, unpack
from amnesty.training.loop import Loop
from amnesty.training.progress import Watch
from amnesty.training.schedules import Schedule
from amnesty.training.settings import faults


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a classifier is trained from scratch: SGD with momentum. The same for an original and its retraining.

    Args:
        lr: learning rate. epochs: passes over the data. batch_size: examples in a batch.
        momentum: of SGD. weight_decay: L2 on all parameters. schedule: of the learning rate.

    Raises:
        InvalidInputError: settings out of range, all of them named at once.
    """

    lr: float = 0.1
    epochs: int = 30
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        wrong = faults(self)
        if wrong:
            raise InvalidInputError(f"Recipe: {'; '.join(wrong)}.")

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


def reinitialised(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy whose every parameter is as new, by its module's own ``reset_parameters``.

    Those of batch norm reset its running statistics too. Buffers of modules without that method, such as the
    constants of a normalisation, are kept.

    Raises:
        ModelError: a module holds parameters of its own but no ``reset_parameters``, or some parameters are
            frozen, so that nobody can tell whether they are to be new. Give a function that makes a new model.
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
    frozen = [name for name, p in fresh.named_parameters() if not p.requires_grad]
    if frozen:
        raise ModelError(
            f"{len(frozen)} parameters are frozen, such as {frozen[0]!r}: is training to start from their values or "
            "from new ones? Pass `Retrain(fresh=...)` a function that makes the model to train."
        )
    home = device_of(fresh)
    with seeded(derive(seed, "initialisation"), torch.device("cpu")):
        fresh.cpu()  # so that a seed gives the same weights wherever the model lives
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return fresh.to(home)
