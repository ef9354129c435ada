"""How the learning rate falls over a run."""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "linear", "cosine"]
"""Factor on the learning rate at step k of n: 1; ``1 - k/n``; ``(1 + cos(pi k/n)) / 2``."""

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def scheduler(optimizer: Optimizer, schedule: Schedule, steps: int) -> LambdaLR:
    """Return the scheduler, to be stepped after every step of the optimiser, of which there are ``steps``."""

    def factor(step: int) -> float:
        done = min(step / max(steps, 1), 1.0)
        if schedule == "linear":
            return 1.0 - done
        return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0

    return LambdaLR(optimizer, factor)
