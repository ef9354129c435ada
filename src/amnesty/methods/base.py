"""What every method is: settings, and a short ``run``."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from amnesty.errors import InvalidInputError
from amnesty.tasks import Classification
from amnesty.training import Loop, MakeOptimizer, faults


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
        return faults(self)


def sgd(lr: float, momentum: float, weight_decay: float) -> MakeOptimizer:
    """Return a maker of `torch.optim.SGD`, whatever the number of steps."""
    return lambda parameters, steps: torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay)
