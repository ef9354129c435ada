"""Amnesiac unlearning: wrong labels, drawn once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch.utils.data import ConcatDataset, Dataset

from amnesty.data import WithLabels
from amnesty.methods.base import About, Iterative
from amnesty.seeds import generator
from amnesty.tasks import Classification, Role, cross_entropy
from amnesty.tasks.forgetting import draw_labels
from amnesty.tasks.relabelling import labelled_part
from amnesty.training import Count, Loop, NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class Amnesiac(Iterative):
    """Cross-entropy on one shuffled stream of both sets; each example to forget has one wrong label, drawn once.

    Wrong labels are uniform over all classes but the true one, so that one forgotten class may be taken for another.

    Source: Graves et al., Amnesiac Machine Learning, AAAI 2021, arXiv:2010.10981: its variant that relabels. (The
    other one subtracts updates that were recorded while the original was trained.)
    """

    about: ClassVar = About(
        "Amnesiac unlearning", "Amnesiac", "Graves et al.", 2021, "arXiv:2010.10981", ("forget", "retain")
    )

    lr: Positive = 1e-4
    epochs: Count = 3
    batch_size: Count = 128
    optimizer: Literal["sgd", "adam"] = "adam"
    weight_decay: NotNegative = 0.0

    def run(self, task: Classification, loop: Loop) -> None:
        """Draw the labels and train on the mixture."""
        forget, retain = (labelled_part(task, part) for part in ("forget", "retain"))
        wrong = draw_labels(forget.labels, torch.arange(task.classes), True, generator(loop.seed, "wrong labels"))
        both: Dataset[Any] = ConcatDataset([WithLabels(forget.dataset, wrong), retain])
        role = Role("together", cross_entropy)
        self.train(task, loop, {"together": role}, parts={"together": both}, retaining=("together",))
