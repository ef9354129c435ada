"""Successive random labels: one shuffled stream of what is kept and what is relabelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import Loop, Positive


@dataclass(frozen=True, kw_only=True)
class SuccessiveRandomLabels(Iterative):
    """Cross-entropy on one shuffled stream of both sets; examples to forget have new random labels in every epoch.

    A mixed batch is normalised as one by batch norm, which is what differs from `RandomLabels` in turns.
    ``exclude_true=False``, as published, teaches the true label again to one example in C.

    Source: "SRL" of Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276, after Golatkar et al., CVPR 2020,
    arXiv:1911.04933, and Fan et al., ICLR 2024, arXiv:2310.12508.
    """

    about: ClassVar = About(
        "Successive random labels", "SRL", "Golatkar et al.", 2020, "arXiv:1911.04933", ("forget", "retain")
    )
    classifiers_only: ClassVar = False

    lr: Positive = 0.013
    exclude_true: bool = False

    def run(self, task: Task, loop: Loop) -> None:
        """Train on the mixture."""
        role, both = task.together(task.relabelled(self.exclude_true), task.preserved())
        self.train(task, loop, {"together": role}, parts={"together": both}, retaining=("together",))
