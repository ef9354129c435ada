"""What every method is: settings, and a short ``run``."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from amnesty.data import PAIRINGS
from amnesty.errors import InvalidInputError
from amnesty.tasks import Classification
from amnesty.training import BATCH_NORM_POLICIES, SCHEDULES, Loop, MakeOptimizer

CHOICES = {"pairing": PAIRINGS, "schedule": SCHEDULES, "batch_norm": BATCH_NORM_POLICIES}
POSITIVE = ("lr", "epochs", "batch_size", "forget_batch_size", "cap", "max_norm", "reach")
NOT_NEGATIVE = ("momentum", "weight_decay")


@dataclasses.dataclass(frozen=True)
class About:
    """What the table of methods tells of one.

    Attributes:
        title: full name. source: who published it, and when.
        needs: parts of the data, or other things, without which it cannot run.
        uses: parts of the data that it reads where the task has them.
    """

    title: str
    source: str
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to unlearn. Its fields are its settings and all there is to configure.

    Raises:
        InvalidInputError: settings out of range, all of them named at once.
    """

    about: ClassVar[About]

    def __post_init__(self) -> None:
        faults = self.faults()
        if faults:
            raise InvalidInputError(f"{type(self).__name__}: {'; '.join(faults)}.")

    @abstractmethod
    def run(self, task: Classification, loop: Loop) -> None:
        """Unlearn ``loop.model`` in place; it is a copy of the task's model."""

    def faults(self) -> list[str]:
        """Return what is wrong with the settings; methods with settings of their own add to it."""
        found = []
        settings: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in settings.items():
            if value is None:
                continue
            if name in POSITIVE and not 0 < value < math.inf:
                found.append(f"`{name}` must be positive, found {value}")
            if name in NOT_NEGATIVE and not 0 <= value < math.inf:
                found.append(f"`{name}` must not be negative, found {value}")
            if name in CHOICES and value not in CHOICES[name]:
                found.append(f"`{name}` must be one of {', '.join(CHOICES[name])}, found {value!r}")
        return found


def sgd(lr: float, momentum: float, weight_decay: float) -> MakeOptimizer:
    """Return a maker of `torch.optim.SGD`, whatever the number of steps."""
    return lambda parameters, steps: torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay)
