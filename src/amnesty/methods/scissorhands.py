"""Scissorhands: cut what the forget set depends on, then repair without bringing it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.bargaining import Sum
from amnesty.data import Meeting
from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import Count, Hook, Loop, NotNegative, Positive, Share, both
from amnesty.training.projection import projected
from amnesty.training.trimming import trim_stages, trimmable
from amnesty.weights import Scope


@dataclass(frozen=True, kw_only=True)
class Scissorhands(Iterative):
    """Draw the weights anew that matter most to the forget set, then repair while ascending on it.

    1. Trim, once: of the share ``trim`` of all weights with the largest ``|theta * grad CE|`` on the forget set,
       those in the last ``stages`` are drawn anew, norms aside; see `amnesty.weights.snip_trim`.
    2. Repair: ``CE(retain) - forget_weight * CE(forget)``, then the rest of the retain set alone in each epoch.
    3. With ``project``, updates of the last ``stages`` are bent where they would lower ``CE(forget)`` on one of
       some batches that are looked at when an epoch begins; see `amnesty.training.projection.projected`.

    Args:
        trim: 1 minus the published sparsity kappa. scope: the share of ``"all"`` weights, as published, or of the
            ``"eligible"`` ones. trim_batches: of the forget set, to tell what matters.
        stages: 3 of a ResNet are its last two groups of blocks and the classifier.
        forget_weight: lambda of the ascent, which is unbounded; see `max_norm`, and ``cap``: cross-entropy (nats) at
            which an example is forgotten enough.
        memories: batches that are looked at. margin: least weight of each when an update is bent.
        pairing: how batches meet; see `amnesty.data.pair`.

    Source: Wu & Harandi, Scissorhands, ECCV 2024, arXiv:2401.06187. The published code renews norms of shortcuts,
    scores in training mode, and adds each memory to the one before it; there the projection is off by default.
    """

    about: ClassVar = About("Scissorhands", "SHs", "Wu & Harandi", 2024, "arXiv:2401.06187", ("forget", "retain"))
    classifiers_only: ClassVar = False

    trim: Share = 0.1
    scope: Scope = "all"
    trim_batches: Count = 1
    stages: Count = 3
    forget_weight: NotNegative = 0.1
    cap: Positive | None = None
    project: bool = True
    memories: Count = 10
    margin: NotNegative = 0.5
    pairing: Meeting = "retain_tail"

    def run(self, task: Task, loop: Loop) -> None:
        """Trim and repair."""
        names = trimmable(loop.model, task.probe, self.stages)
        masks = self.masks(task, loop)
        trim_stages(
            loop,
            names,
            self.trim,
            task.learnt,
            batches=self.trim_batches,
            batch_size=self.batch_size,
            scope=self.scope,
        )
        forget = task.ascended(self.cap)
        hooks: list[Hook] = []
        if self.project:
            memory = projected(
                loop.model,
                loop.parts["forget"],
                forget.loss,
                names,
                memories=self.memories,
                margin=self.margin,
                batch_size=self.batch_size,
                seed=loop.seed,
                masks=both(masks, loop.masks),
            )
            hooks.append(memory)
        players = {"forget": forget, "retain": task.preserved()}
        rule = Sum((self.forget_weight, 1.0))
        self.train(task, loop, players, rule=rule, pairing=self.pairing, masks=masks, hooks=hooks)

    def check(self, task: Task) -> None:
        """Add that the model has stages to trim."""
        super().check(task)
        trimmable(task.model, task.probe, self.stages)
