"""How the learning rate changes over a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def stretched(schedule: Schedule | Factor, part: int, parts: int) -> Factor:
    """Return the schedule of run ``part``, from 0, of ``parts`` runs of equally many steps that share one.

    >>> [stretched("linear", 1, 2)(k, 2) for k in range(2)]
    [0.5, 0.25]
    """
    return lambda step, steps: factor(schedule, part * steps + step, parts * steps)


def cosine_to(least: float) -> Factor:
    """Return a cosine that falls from 1 to ``least``.

    >>> [cosine_to(0.5)(k, 2) for k in range(3)]
    [1.0, 0.75, 0.5]
    """
    return lambda step, steps: least + (1 - least) * factor("cosine", step, steps)


def dropping(marks: Sequence[int], schedule: Schedule | Factor = "constant", drop: float = 0.1) -> Factor:
    """Return ``schedule`` times ``drop`` for each of ``marks``, counted in steps, that has been reached.

    >>> [dropping([2, 3], drop=0.5)(k, 4) for k in range(4)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return lambda step, steps: factor(schedule, step, steps) * drop ** sum(step >= mark for mark in marks)


def by_epoch(factors: Sequence[float]) -> Factor:
    """Return the schedule with one factor on the learning rate for each pass of the run.

    >>> schedule = by_epoch([1.0, 0.5])
    >>> [schedule(k, 4) for k in range(4)]
    [1.0, 1.0, 0.5, 0.5]
    """
    return lambda step, steps: factors[min(step * len(factors) // max(steps, 1), len(factors) - 1)]


def milestones(epochs: int, percent: Sequence[int] = (50, 80, 90)) -> list[float]:
    """Return factors that fall to a tenth once so many percent of the passes, rounded up, are over.

    >>> milestones(1), milestones(2)
    ([1.0], [1.0, 0.1])
    """
    return [0.1 ** sum(epoch >= -(-epochs * p // 100) for p in percent) for epoch in range(epochs)]


def up_and_down(epochs: int) -> list[float]:
    """Return factors that rise to 1 over the first ``(epochs + 1) // 2`` passes and then fall towards 0.

    >>> up_and_down(4)
    [0.5, 1.0, 0.6666666666666666, 0.3333333333333333]
    """
    peak = (epochs + 1) // 2
    return [min(epoch / peak, (epochs + 1 - epoch) / (epochs + 1 - peak)) for epoch in range(1, epochs + 1)]
