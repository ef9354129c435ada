"""MUNBa: forgetting and retaining bargain over every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch.optim import Optimizer

from amnesty.bargaining import Nash, Rule
from amnesty.data import Pairing
from amnesty.methods.base import About, Method
from amnesty.tasks import Classification, Role
from amnesty.training import BatchNormPolicy, Loop, Schedule

Wish = Literal["auto", "unseen", "shifted", "relabel", "relabel_any"]


@dataclass(frozen=True, kw_only=True)
class MUNBa(Method):
    """Forget and retain in one step, along the direction both players agreed on.

    Args:
        reach: how far the run may go, as a share of the length of the weights that may move:
            ``lr = reach * |theta| / steps``. An agreed update has a length of its own, whatever the losses, so that
            a learning rate is a distance.
        lr: the learning rate itself, in place of ``reach``.
        epochs, at_least: passes over the retain set, but no fewer steps than ``at_least``.
        batch_size, forget_batch_size: of the retaining and of the forgetting player.
        rule: how the gradients of the forgetting and the retaining player, in this order, become one update.
        wish: what the forgetting player wants.
            ``"unseen"``: to look like the validation part, or like a class never met (`Classification.unseen_like`);
            ``"shifted"``: the same with shifted forget images in place of a validation part;
            ``"relabel"``: random labels of other classes that are kept;
            ``"relabel_any"``: random labels, the true one included, as published;
            ``"auto"``: ``"unseen"`` where the task can tell what unseen looks like (it has a validation part, or only
            whole classes to forget), else ``"relabel"``.

    Source: Wu & Harandi, MUNBa, ICCV 2025, arXiv:2411.15537, Algorithm 1, whose settings are `paper`. The defaults
    differ in everything but the rule: see docs/unlearning.md for what each difference buys.
    """

    about: ClassVar = About("MUNBa, Nash bargaining", "Wu & Harandi 2025", ("forget", "retain"), ("validation",))

    reach: float = 0.14
    lr: float | None = None
    epochs: int = 2
    at_least: int = 60
    batch_size: int = 96
    forget_batch_size: int = 32
    momentum: float = 0.9
    weight_decay: float = 5e-4
    rule: Rule = field(default_factory=Nash)
    wish: Wish = "auto"
    pairing: Pairing = "cycle_forget"
    schedule: Schedule = "linear"
    batch_norm: BatchNormPolicy = "retain_stats"

    @classmethod
    def paper(cls) -> MUNBa:
        """Return the published settings: ten epochs, random labels, a bargain while forget batches last."""
        return cls(
            lr=0.01,
            epochs=10,
            at_least=0,
            batch_size=256,
            forget_batch_size=256,
            wish="relabel_any",
            pairing="retain_tail",
            schedule="constant",
            batch_norm="train",
        )

    def run(self, task: Classification, loop: Loop) -> None:
        """Bargain over every step."""
        moving = [p.detach().norm() for p in loop.model.parameters() if p.requires_grad]
        norm = torch.stack(moving).norm().item()

        def optimizer(parameters: Any, steps: int) -> Optimizer:
            lr = self.lr or self.reach * norm / steps
            return torch.optim.SGD(parameters, lr, self.momentum, weight_decay=self.weight_decay)

        loop.run(
            {"forget": self._forgetting(task), "retain": task.preserved()},
            optimizer=optimizer,
            epochs=self.epochs,
            at_least=self.at_least,
            rule=self.rule,
            batch_size={"forget": self.forget_batch_size, "retain": self.batch_size},
            pairing=self.pairing,
            schedule=self.schedule,
            batch_norm=self.batch_norm,
        )

    def _forgetting(self, task: Classification) -> Role:
        if self.wish == "unseen" or (self.wish == "auto" and task.knows_unseen):
            return task.unseen_like()
        if self.wish == "shifted":
            return task.unseen_like(shifted=True)
        return task.relabelled(exclude_true=self.wish != "relabel_any")

    def faults(self) -> list[str]:
        """Add the ranges of the settings that only this method has."""
        found = super().faults()
        if self.pairing == "sequential":
            found.append("`pairing` must bring both players together, found 'sequential'")
        if self.wish not in get_args(Wish):
            found.append(f"`wish` must be one of {', '.join(get_args(Wish))}, found {self.wish!r}")
        return found
