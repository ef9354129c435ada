"""Random labels: teach the forget set anything but what it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.data import Pairing
from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import Loop, Positive


@dataclass(frozen=True, kw_only=True)
class RandomLabels(Iterative):
    """Cross-entropy on the forget set with labels drawn for each batch, and on the retain set with its own.

    The published order for CIFAR-10 is one pass over the forget set, then one over the retain set
    (``pairing="sequential"``). ``exclude_true=False``, also as published, teaches the true label again to
    one example in C.

    Source: Golatkar et al., CVPR 2020, arXiv:1911.04933; settings of Fan et al., SalUn, ICLR 2024,
    arXiv:2310.12508.
    """

    about: ClassVar = About("Random labels", "RL", "Golatkar et al.", 2020, "arXiv:1911.04933", ("forget", "retain"))
    classifiers_only: ClassVar = False

    lr: Positive = 0.013
    exclude_true: bool = False
    pairing: Pairing = "sequential"

    def run(self, task: Task, loop: Loop) -> None:
        """Train on both, by default one after the other in each epoch."""
        players = {"forget": task.relabelled(self.exclude_true), "retain": task.preserved()}
        self.train(task, loop, players, pairing=self.pairing)
