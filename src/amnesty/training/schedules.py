"""How the learning rate changes over a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "linear", "cosine"]
"""Factor on the learning rate at step k of n: 1; ``1 - k/n``; ``(1 + cos(pi k/n)) / 2``."""

Factor = Callable[[int, int], float]
"""A schedule of one's own: maps step k, from 0, and the number of steps n to a factor on the learning rate."""

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def factor(schedule: Schedule | Factor, step: int, steps: int) -> float:
    """Return the factor on the learning rate at a step, from 0.

    >>> [factor("linear", k, 4) for k in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if callable(schedule):
        return schedule(step, steps)
    done = min(step / max(steps, 1), 1.0)
    if schedule == "linear":
        return 1.0 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0


def scheduler(optimizer: Optimizer, schedule: Schedule | Factor, steps: int) -> LambdaLR:
    """Return the scheduler, to be stepped after every step of the optimiser, of which there are ``steps``."""
    return LambdaLR(optimizer, lambda step: factor(schedule, step, steps))
