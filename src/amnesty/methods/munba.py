"""MUNBa: forgetting and retaining bargain over every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from amnesty.bargaining import Nash, Rule
from amnesty.methods.base import About
from amnesty.methods.negotiated import Negotiated
from amnesty.tasks import Task
from amnesty.training import BatchNormPolicy, Count, CountOrZero, Loop, NotNegative, Schedule, shrink


@dataclass(frozen=True, kw_only=True)
class MUNBa(Negotiated):
    """Forget and retain in one step, along the direction both players agreed on.

    Args:
        rule: how the gradients of the forgetting players and the retaining one, in this order, become one update.
        l1: strength of a pull on ``sum |theta|`` that falls linearly to 0 (the published ``with_l1``).

    Source: Wu & Harandi, MUNBa, ICCV 2025, arXiv:2411.15537, Algorithm 1, whose settings are `paper`. The defaults
    differ in everything but the rule: see docs/unlearning.md for what each difference buys.
    """

    about: ClassVar = About(
        "Nash bargaining", "MUNBa", "Wu & Harandi", 2025, "arXiv:2411.15537", ("forget", "retain"), ("validation",)
    )
    classifiers_only: ClassVar = False

    epochs: Count = 2
    at_least: CountOrZero = 60
    batch_size: Count = 96
    forget_batch_size: Count = 32
    rule: Rule = field(default_factory=Nash)
    l1: NotNegative = 0.0
    schedule: Schedule = "linear"
    batch_norm: BatchNormPolicy = "retain_stats"

    @classmethod
    def paper(cls) -> MUNBa:
        """Return the published settings: ten epochs, random labels, a bargain while forget batches last."""
        sizes = {"epochs": 10, "at_least": 0, "batch_size": 256, "forget_batch_size": 256}
        how = {"wish": "relabel_any", "pairing": "retain_tail", "schedule": "constant", "batch_norm": "train"}
        return cls(lr=0.01, **sizes, **how)  # type: ignore[arg-type]

    def run(self, task: Task, loop: Loop) -> None:
        """Bargain over every step."""
        fading = shrink(loop.model, lambda epoch: self.l1 * max(0.0, 1 - (epoch - 1) / self.epochs))
        self.negotiate(task, loop, rule=self.rule, hooks=[fading] if self.l1 else [])
