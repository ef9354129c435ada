"""What every method is: settings, and a short ``run``."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.tasks import Classification, Role
from amnesty.tasks.diffusion import Diffusion
from amnesty.training import (
    SAM,
    BatchNormPolicy,
    Count,
    Loop,
    MakeOptimizer,
    Masks,
    NotNegative,
    Positive,
    Schedule,
    Share,
    both,
    faults,
)
from amnesty.training.editing import add
from amnesty.weights import saliency

AnyTask = Any
"""An `amnesty.tasks.Task`; methods that need labels and logits ask for a `Classification`."""

PARTS = ("forget", "retain", "validation")
"""Parts of the data that a method may need or use."""


@dataclasses.dataclass(frozen=True)
class About:
    """What the table of methods tells of one.

    Attributes:
        title: full name. short: what papers call it.
        authors, year: of the paper. paper: where it is.
        needs: without what it cannot run: parts of the data (`PARTS`), ``"class"`` (a class that is forgotten
            altogether), ``"recipe"`` (how the original was trained), ``"generator"`` (an image generator).
        uses: parts of the data that it reads where the task has them, or where a setting asks for it.
    """

    title: str
    short: str
    authors: str
    year: int | None
    paper: str
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to unlearn. Its fields are its settings and all there is to configure.

    Raises:
        InvalidInputError: settings out of range, all of them named at once.
        UnknownNameError: a setting that the method does not have.
    """

    about: ClassVar[About]
    classifiers_only: ClassVar[bool] = True  # whether it asks for class numbers and logits

    def __new__(cls, **settings: Any) -> Self:
        """Refuse settings that the method does not have, suggesting the nearest."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                raise UnknownNameError(f"setting of {cls.__name__}", name, known)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        faults = self.faults()
        if faults:
            raise InvalidInputError(f"{type(self).__name__}: {'; '.join(faults)}.")

    @abstractmethod
    def run(self, task: AnyTask, loop: Loop) -> None:
        """Unlearn ``loop.model`` in place; it is a copy of the task's model."""

    def faults(self) -> list[str]:
        """Return what is wrong with the settings; methods with settings of their own add to it."""
        return faults(self)

    def check(self, task: AnyTask) -> None:
        """Raise `InvalidInputError` if the task lacks what the method needs; called before anything is trained.

        Methods that need more than `About` can say add to it.
        """
        name = type(self).__name__
        if self.classifiers_only and not isinstance(task, Classification):
            raise InvalidInputError(f"{name} unlearns classifiers only; this is a {type(task).__name__} task.")
        if "generator" in self.about.needs and not isinstance(task, Diffusion):
            raise InvalidInputError(f"{name} unlearns image generators only; this is a {type(task).__name__} task.")
        for need in self.about.needs:
            if need in PARTS and need not in task.parts:
                raise InvalidInputError(
                    f"{name} needs the {need} set, which this task does not have; it has {', '.join(task.parts)}."
                )
        if "recipe" in self.about.needs and not task.retrainable:
            raise InvalidInputError(f"{name} trains anew, which the parts of a {type(task).__name__} do not allow.")
        if "class" in self.about.needs and not task.forgotten_classes:
            raise InvalidInputError(
                f"{name} forgets whole classes, but the retain set has examples of every class in the forget set."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Iterative(Method):
    """A method that trains. These settings are common to all that do; each has defaults of its own.

    Args:
        lr, momentum, weight_decay: of the optimiser; for Adam the momentum is its first beta.
        epochs: passes over the data. batch_size: examples in a batch.
        optimizer: ``"sgd"`` or ``"adam"``.
        schedule: of the learning rate. batch_norm: see `amnesty.training.BatchNormPolicy`.
        max_norm: length to which every update is clipped.
        sam: radius of sharpness-aware minimisation around the optimiser (`amnesty.training.SAM`); ``None`` is off.
        saliency: share of the weights that may move: those with the largest gradient on the forget set (SalUn's
            mask); ``None``: all of them.
    """

    lr: Positive = 0.01
    epochs: Count = 10
    batch_size: Count = 256
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: NotNegative = 0.9
    weight_decay: NotNegative = 5e-4
    schedule: Schedule = "constant"
    batch_norm: BatchNormPolicy = "train"
    max_norm: Positive | None = None
    sam: Positive | None = None
    saliency: Share | None = None

    def train(self, task: AnyTask, loop: Loop, players: Mapping[str, Role], **other: Any) -> None:
        """Run the loop with these settings, and with ``other`` arguments of `Loop.run` beside or in place of them."""
        settings: dict[str, Any] = {
            "optimizer": self.make_optimizer(),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "schedule": self.schedule,
            "batch_norm": self.batch_norm,
            "max_norm": self.max_norm,
        }
        if "masks" not in other:
            settings["masks"] = self.masks(task, loop)
        loop.run(players, **settings | other)

    def make_optimizer(self, **changes: float) -> MakeOptimizer:
        """Return the maker of the optimiser, with ``changes`` of ``lr``, ``momentum`` or ``weight_decay``."""
        chosen = dataclasses.replace(self, **changes) if changes else self  # type: ignore[arg-type]

        def make(parameters: Any, steps: int) -> Optimizer:
            lr, momentum, decay = chosen.lr, chosen.momentum, chosen.weight_decay
            base: Optimizer
            if chosen.optimizer == "adam":
                base = torch.optim.Adam(parameters, lr, (momentum, 0.999), weight_decay=decay)
            else:
                base = torch.optim.SGD(parameters, lr, momentum, weight_decay=decay)
            return base if chosen.sam is None else SAM(base, chosen.sam)

        return make

    def masks(self, task: AnyTask, loop: Loop) -> Masks:
        """Return the saliency masks of the loop's model as it is now; none where all may move."""
        return saliency(loop.model, task.parts["forget"], self.saliency, task.learnt)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit(Method):
    """A method that changes the weights once, without training.

    Args:
        saliency: share of the weights that may change; see `Iterative`.
    """

    saliency: Share | None = None

    @abstractmethod
    def edit(self, task: AnyTask, loop: Loop) -> Mapping[str, Tensor]:
        """Return what is to be added to which parameters of ``loop.model``: name -> tensor of its shape."""

    def run(self, task: AnyTask, loop: Loop) -> None:
        """Add the edit to the weights, at coordinates that may move; see `amnesty.training.editing.add`."""
        masks = both(saliency(loop.model, task.parts["forget"], self.saliency, task.learnt), loop.masks)
        add(loop, self.edit(task, loop), masks)
