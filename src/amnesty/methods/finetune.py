"""Fine-tuning: hope that what is not repeated is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.bargaining import Sum
from amnesty.methods.base import About, Method, sgd
from amnesty.tasks import Classification
from amnesty.training import BatchNormPolicy, Loop, Schedule


@dataclass(frozen=True, kw_only=True)
class FineTune(Method):
    """Cross-entropy on the retain set alone; forgetting is left to chance.

    Source: Golatkar et al., CVPR 2020, arXiv:1911.04933; Warnecke et al. 2021, arXiv:2108.11577.
    """

    about: ClassVar = About("Fine-tuning", "Golatkar et al. 2020; Warnecke et al. 2021", ("retain",))

    lr: float = 0.01
    epochs: int = 10
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "constant"
    batch_norm: BatchNormPolicy = "train"

    def run(self, task: Classification, loop: Loop) -> None:
        """Train on the retain set."""
        loop.run(
            {"retain": task.preserved()},
            optimizer=sgd(self.lr, self.momentum, self.weight_decay),
            epochs=self.epochs,
            rule=Sum(),
            batch_size=self.batch_size,
            schedule=self.schedule,
            batch_norm=self.batch_norm,
        )
