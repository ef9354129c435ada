"""SalUn: random labels, where the weights matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import Loop, Positive, Share


@dataclass(frozen=True, kw_only=True)
class SalUn(Iterative):
    """Random labels for the forget set, while only the weights that matter most to it may move.

    Of all weights the share ``saliency`` may move in which ``|sum over the forget set of grad CE|`` is largest, at
    the original weights in evaluation mode, one threshold for all; the others keep their bits. Labels are drawn anew
    in each epoch, by default from all classes, the true one included, as published.

    Args:
        stream: ``"sequential"``: in each epoch the forget set, then the retain set, as published for CIFAR-10;
            ``"mixed"``: both in one shuffled stream, as published for other data.
        exclude_true: draw other labels only, of classes that are kept.

    Source: Fan et al., SalUn, ICLR 2024, arXiv:2310.12508, Algorithm 1. The published code gives the last, smaller
    batch the weight of a full one, takes the gradients with training augmentation (here: with whatever the forget set
    does), and in its earlier versions lets weight decay move what the mask holds.
    """

    about: ClassVar = About(
        "Saliency unlearning", "SalUn", "Fan et al.", 2024, "arXiv:2310.12508", ("forget", "retain")
    )
    classifiers_only: ClassVar = False

    lr: Positive = 0.013
    saliency: Share = 0.5
    exclude_true: bool = False
    stream: Literal["sequential", "mixed"] = "sequential"

    def run(self, task: Task, loop: Loop) -> None:
        """Train on both under the mask."""
        forget, retain = task.relabelled(self.exclude_true), task.preserved()
        if self.stream == "sequential":
            self.train(task, loop, {"forget": forget, "retain": retain}, pairing="sequential")
            return
        role, both = task.together(forget, retain)
        self.train(task, loop, {"together": role}, parts={"together": both}, retaining=("together",))
