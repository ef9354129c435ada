"""Random labels: teach the forget set anything but what it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.bargaining import Sum
from amnesty.data import Pairing
from amnesty.methods.base import About, Method, sgd
from amnesty.tasks import Classification
from amnesty.training import BatchNormPolicy, Loop, Schedule


@dataclass(frozen=True, kw_only=True)
class RandomLabels(Method):
    """Cross-entropy on the forget set with labels drawn for each batch, and on the retain set with its own.

    The published order for CIFAR-10 is one pass over the forget set, then one over the retain set
    (``pairing="sequential"``). ``exclude_true=False``, also as published, teaches the true label again to
    one example in C.

    Source: Golatkar et al., CVPR 2020, arXiv:1911.04933; settings of Fan et al., SalUn, ICLR 2024,
    arXiv:2310.12508.
    """

    about: ClassVar = About("Random labels", "Golatkar et al. 2020; Fan et al. 2024", ("forget", "retain"))

    lr: float = 0.013
    epochs: int = 10
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    exclude_true: bool = False
    pairing: Pairing = "sequential"
    schedule: Schedule = "constant"
    batch_norm: BatchNormPolicy = "train"

    def run(self, task: Classification, loop: Loop) -> None:
        """Train on both, by default one after the other in each epoch."""
        loop.run(
            {"forget": task.relabelled(self.exclude_true), "retain": task.preserved()},
            optimizer=sgd(self.lr, self.momentum, self.weight_decay),
            epochs=self.epochs,
            rule=Sum(),
            batch_size=self.batch_size,
            pairing=self.pairing,
            schedule=self.schedule,
            batch_norm=self.batch_norm,
        )
