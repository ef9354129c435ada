"""Several calls of `Loop.run` that are one run: optimisers and schedules that last over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from amnesty.training.schedules import Factor, Schedule, factor
from amnesty.training.stepper import MakeOptimizer


def lasting(make: MakeOptimizer) -> MakeOptimizer:
    """Return a maker that makes one optimiser and hands it out again, momentum and all, for the same parameters."""
    made: list[tuple[Optimizer, list[float]]] = []

    def again(parameters: Any, steps: int) -> Optimizer:
        if not made:
            optimizer = make(parameters, steps)
            made.append((optimizer, [group["lr"] for group in optimizer.param_groups]))
        optimizer, rates = made[0]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = group["initial_lr"] = rate  # the next schedule starts from it
        return optimizer

    return again


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
