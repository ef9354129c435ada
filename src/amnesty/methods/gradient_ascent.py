"""Gradient ascent: undo learning by its reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.bargaining import Sum
from amnesty.methods.base import About, Method, sgd
from amnesty.tasks import Classification
from amnesty.training import BatchNormPolicy, Loop, Schedule


@dataclass(frozen=True, kw_only=True)
class GradientAscent(Method):
    """Raise the cross-entropy of the forget set; the retain set is never read.

    The loss is unbounded: a learning rate too large, or too many steps, destroys the model. ``cap`` stops
    each example at that cross-entropy (nats). Batch norm is frozen by default, because with the forget set
    alone its statistics would become those of what is to be forgotten.

    Source: Graves et al. 2021, arXiv:2010.10981; Thudi et al. 2022, arXiv:2109.13398. The published code
    trains in ``batch_norm="train"``.
    """

    about: ClassVar = About("Gradient ascent", "Graves et al. 2021; Thudi et al. 2022", ("forget",))

    lr: float = 1e-4
    epochs: int = 5
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    cap: float | None = None
    max_norm: float | None = None
    schedule: Schedule = "constant"
    batch_norm: BatchNormPolicy = "eval"

    def run(self, task: Classification, loop: Loop) -> None:
        """Ascend on the forget set."""
        loop.run(
            {"forget": task.ascended(self.cap)},
            optimizer=sgd(self.lr, self.momentum, self.weight_decay),
            epochs=self.epochs,
            rule=Sum(),
            batch_size=self.batch_size,
            schedule=self.schedule,
            batch_norm=self.batch_norm,
            max_norm=self.max_norm,
        )
