"""SCRUB: disobey the teacher on what is to be forgotten, obey it on the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from amnesty.data import Batches
from amnesty.errors import InvalidInputError
from amnesty.methods.base import About, Iterative
from amnesty.tasks import Classification, Mean, Role, Source, blend, frozen, imitated, truth
from amnesty.tasks.labelled import predict
from amnesty.training import Count, CountOrZero, Factor, Loop, NotNegative, Positive
from amnesty.training.rewind import Snapshots
from amnesty.training.schedules import dropping


@dataclass(frozen=True, kw_only=True)
class SCRUB(Iterative):
    """Move away from the original on the forget set and stay with it on the retain set, in turns.

    In epochs up to ``ascent_epochs`` a pass over the forget set that raises ``T^2 KL(p_0^T || p^T)``, p_0 the
    original; in all of them, then, a pass over the retain set on ``gamma CE + alpha T^2 KL(p_0^T || p^T)``.

    Args:
        ascent_epochs: first epochs that have a forgetting pass.
        batch_size, forget_batch_size: of the two passes; the latter is the main knob: larger is milder.
        alpha, gamma: see above. temperature: T.
        milestones: numbers of epochs after which the learning rate falls to a tenth.
        rewind: go back to the epoch (0 is the original) whose error on the forget set is closest to the error of the
            final model on validation examples of the classes in the forget set ("SCRUB+R").

    Source: Kurmanji et al., SCRUB, NeurIPS 2023, arXiv:2302.09880, with the settings of its larger experiments.
    """

    about: ClassVar = About(
        "SCRUB", "SCRUB", "Kurmanji et al.", 2023, "arXiv:2302.09880", ("forget", "retain"), ("validation",)
    )

    lr: Positive = 5e-4
    epochs: Count = 3
    batch_size: Count = 128
    forget_batch_size: Count = 512
    ascent_epochs: CountOrZero = 2
    alpha: NotNegative = 0.001
    gamma: NotNegative = 0.99
    temperature: Positive = 4.0
    milestones: tuple[int, ...] = (3, 5, 9)
    rewind: bool = False

    def run(self, task: Classification, loop: Loop) -> None:
        """Run the passes, and rewind if asked to."""
        teacher = imitated(frozen(loop.model), self.temperature, squared=True)
        players = {
            "forget": Role("forget", Mean(blend((-1.0, teacher)))),
            "retain": Role("retain", Mean(blend((self.gamma, truth), (self.alpha, teacher)))),
        }
        kept = Snapshots(loop.model, lambda model: _error(model, loop.parts["forget"])) if self.rewind else None
        self.train(
            task,
            loop,
            players,
            during={"forget": self.ascent_epochs},
            batch_size={"forget": self.forget_batch_size, "retain": self.batch_size},
            pairing="sequential",
            schedule=self._falling(loop),
            hooks=[kept.hook] if kept else [],
        )
        if kept:
            wanted = _error(loop.model, loop.parts["validation"], task.labels("forget"))
            loop.note(rewound_to=kept.rewind(wanted), wanted_error=wanted)

    def _falling(self, loop: Loop) -> Factor:
        forget = len(Batches(loop.parts["forget"], self.forget_batch_size))
        retain = len(Batches(loop.parts["retain"], self.batch_size))
        ends = [epoch * retain + min(epoch, self.ascent_epochs) * forget for epoch in self.milestones]
        return dropping(ends, self.schedule)

    def check(self, task: Classification) -> None:
        """Add what a rewind needs."""
        super().check(task)
        if not self.rewind:
            return
        found = set(task.labels("validation").tolist()) if "validation" in task.parts else set()
        if not found & set(task.labels("forget").tolist()):
            raise InvalidInputError(
                "SCRUB(rewind=True) compares with unseen examples of the classes in the forget set: give the task a "
                "`validation` part that has some."
            )

    def faults(self) -> list[str]:
        """Add a retaining pass without a loss, and milestones that are no epochs."""
        found = super().faults()
        if not found and not self.alpha + self.gamma > 0:
            found.append("`alpha` and `gamma` must not both be 0")
        if not all(isinstance(epoch, int) and epoch >= 1 for epoch in self.milestones):
            found.append(f"`milestones` must hold whole numbers of at least 1, found {self.milestones!r}")
        return found


def _error(model: nn.Module, source: Source, classes: torch.Tensor | None = None) -> float:
    """Return the share of wrong answers, in [0, 1], among the examples of some classes."""
    found = predict(model, source)
    wrong = found.logits.argmax(dim=1) != found.labels
    return (wrong if classes is None else wrong[torch.isin(found.labels, classes)]).double().mean().item()
