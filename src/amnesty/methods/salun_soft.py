"""SalUn with a soft threshold in place of a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.data import Batches
from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import Loop, Positive, Share
from amnesty.training.holding import hold_the_least
from amnesty.training.masks import both as held_by_both


@dataclass(frozen=True, kw_only=True)
class SalUnSoft(Iterative):
    """Random labels for the forget set, while weights that would move least are held, fewer and fewer of them.

    One shuffled stream of both sets, labels drawn anew in each epoch. After each step all changes since the start are
    soft-thresholded by the k-th smallest of them, k falling linearly from ``held`` of the weights to 0; see
    `amnesty.training.holding.hold_the_least`.

    Args:
        held: share of the weights that are held at the beginning.
        exclude_true: draw other labels only, of classes that are kept.

    Source: Fan et al., SalUn, ICLR 2024, arXiv:2310.12508, the soft-thresholding variant. The published code measures
    changes from the start of each epoch, and k falls only from epoch to epoch.
    """

    about: ClassVar = About(
        "Saliency unlearning, soft threshold",
        "SalUn-soft",
        "Fan et al.",
        2024,
        "arXiv:2310.12508",
        ("forget", "retain"),
    )
    classifiers_only: ClassVar = False

    lr: Positive = 0.013
    held: Share = 0.5
    exclude_true: bool = False

    def run(self, task: Task, loop: Loop) -> None:
        """Train on the mixture, thresholding after each step."""
        role, both = task.together(task.relabelled(self.exclude_true), task.preserved())
        steps = self.epochs * len(Batches(both, self.batch_size))
        masks = self.masks(task, loop)
        soft = hold_the_least(loop.model, self.held, steps, held_by_both(masks, loop.masks))
        self.train(
            task,
            loop,
            {"together": role},
            parts={"together": both},
            retaining=("together",),
            masks=masks,
            hooks=[soft],
        )
