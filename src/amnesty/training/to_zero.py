"""A pull to zero that arrives there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.optim import Optimizer

from amnesty.training.hooks import Hook
from amnesty.training.stepper import MakeOptimizer


def shrink_to_zero(make: MakeOptimizer, strength: Callable[[int], float]) -> tuple[MakeOptimizer, Hook]:
    """Add the proximal step of ``strength(epoch) * sum |theta|`` (epochs from 1) to an optimiser.

    After each of its steps, every weight comes closer to 0 by ``lr * strength(epoch)``, and becomes 0 where that is
    farther away; `amnesty.training.shrink`, the subgradient of the same term, never arrives.

    Returns:
        The optimiser and the hook, both for one call of `Loop.run`.
    """
    made: list[Optimizer] = []
    now = [0.0]

    def build(parameters: Any, steps: int) -> Optimizer:
        made[:] = [make(parameters, steps)]
        return made[0]

    @torch.no_grad()
    def after_step() -> None:
        for group in made[0].param_groups:
            for p in group["params"]:
                p.copy_(F.softshrink(p, group["lr"] * now[0]))

    return build, Hook(
        start_epoch=lambda epoch: now.__setitem__(0, strength(epoch)),
        after_step=after_step,
        state=lambda: now[0],
        restore=lambda found: now.__setitem__(0, found),
    )
