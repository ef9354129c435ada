"""Several calls of `Loop.run` that are one run: an optimiser that lasts over them."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from amnesty.training.stepper import MakeOptimizer


class Lasting:
    """Makes one optimiser and hands it out again, momentum and all; see `lasting`."""

    def __init__(self, make: MakeOptimizer) -> None:
        self._make = make
        self._made: list[tuple[Optimizer, list[float]]] = []

    def __call__(self, parameters: Any, steps: int) -> Optimizer:
        """Return the optimiser, at its first learning rates."""
        if not self._made:
            optimizer = self._make(parameters, steps)
            self._made.append((optimizer, [group["lr"] for group in optimizer.param_groups]))
        optimizer, rates = self._made[0]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = group["initial_lr"] = rate  # the next schedule starts from it
        return optimizer


def lasting(make: MakeOptimizer) -> MakeOptimizer:
    """Return a maker that makes one optimiser and hands it out again, momentum and all, for the same parameters.

    A checkpoint of a run saves its state at the end of every call that used it.
    """
    return Lasting(make)
