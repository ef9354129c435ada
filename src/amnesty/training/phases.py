"""Several calls of `Loop.run` that are one run: an optimiser that lasts over them."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

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
