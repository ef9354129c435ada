"""Gradient ascent: undo learning by its reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import BatchNormPolicy, Count, Loop, Positive


@dataclass(frozen=True, kw_only=True)
class GradientAscent(Iterative):
    """Raise the cross-entropy of the forget set; the retain set is never read.

    The loss is unbounded: a learning rate too large, or too many steps, destroys the model. ``cap`` stops
    each example at that cross-entropy (nats). Batch norm is frozen by default, because with the forget set
    alone its statistics would become those of what is to be forgotten.

    Source: Graves et al. 2021, arXiv:2010.10981; Thudi et al. 2022, arXiv:2109.13398. The published code
    trains in ``batch_norm="train"``.
    """

    about: ClassVar = About("Gradient ascent", "GA", "Graves et al.", 2021, "arXiv:2010.10981", ("forget",))
    classifiers_only: ClassVar = False

    lr: Positive = 1e-4
    epochs: Count = 5
    cap: Positive | None = None
    batch_norm: BatchNormPolicy = "eval"

    def run(self, task: Task, loop: Loop) -> None:
        """Ascend on the forget set."""
        self.train(task, loop, {"forget": task.ascended(self.cap)})
