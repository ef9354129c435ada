"""What MUNBa and its kin share: players who meet in every step, and a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from amnesty.bargaining import Nash
from amnesty.data import Meeting
from amnesty.errors import InvalidInputError
from amnesty.methods.base import Iterative
from amnesty.tasks import Classification, Role, Task, Unseen, Wish
from amnesty.training import Count, CountOrZero, Loop, MakeOptimizer, Positive
from amnesty.training.rounds import run_rounds, sees_batches_alone


@dataclass(frozen=True, kw_only=True)
class Negotiated(Iterative):
    """A method whose forgetting players (one for each named forget set) and retaining player share every step.

    Where the forgetting players want to look unseen, rounds of ``epochs`` passes are made until they do; see
    `amnesty.training.rounds.run_rounds`.

    Args:
        lr: the learning rate. ``None``: ``reach * |theta| / steps``, |theta| being the length of the weights that may
            move. An update that a rule made of unit length is a distance, whatever the losses.
        reach: how far a round may go at most, as a share of the length of the weights; used where ``lr`` is ``None``.
        rounds: most rounds. ``None``: 8, but one where ``lr`` is given.
        at_least: steps that a round has at least.
        batch_size, forget_batch_size: of the retaining player, and of each forgetting one.
        wish: what the forgetting players want; see `Classification.wished`. cap: of ``wish="ascend"``, nats.
        pairing: how batches meet; see `amnesty.data.pair`.
    """

    lr: Positive | None = None  # type: ignore[assignment]
    reach: Positive = 0.14
    rounds: Count | None = None
    at_least: CountOrZero = 0
    forget_batch_size: Count = 256
    wish: Wish = "auto"
    cap: Positive | None = None
    pairing: Meeting = "cycle_forget"

    def negotiate(self, task: Task, loop: Loop, **other: Any) -> None:
        """Run the loop with a player for each forget set, then the retaining one, with ``other`` arguments of it."""
        if "masks" not in other:
            other["masks"] = self.masks(task, loop)  # chosen before the first round, for all of them
        if not isinstance(task, Classification) or not self.knows_the_end(task):
            self._round(task, loop, task.wished(self.wish, self.cap), self.reach, other)
            return
        unseen = Unseen(task, shifted=self.wish == "shifted")
        company = unseen.gone and self.pairing != "retain_tail" and sees_batches_alone(loop.model, self.batch_norm)

        def make(share: float, repair: bool) -> None:
            forget = None if repair else unseen.role(loop.model, company)
            self._round(task, loop, forget, share * self.reach, other)

        run_rounds(loop, unseen, self.rounds or (8 if self.lr is None else 1), make)

    def _round(self, task: Task, loop: Loop, forget: Role | None, reach: float, other: Mapping[str, Any]) -> None:
        forgetting = {} if forget is None else task.each(forget)
        alone = {"rule": Nash(), "lookahead": None} if forget is None else {}  # its steps are of length one, too
        self.train(
            task,
            loop,
            {**forgetting, "retain": task.preserved()},
            at_least=self.at_least,
            batch_size={**dict.fromkeys(forgetting, self.forget_batch_size), "retain": self.batch_size},
            pairing=self.pairing,
            **{"optimizer": self._by_reach(loop, reach)} | dict(other) | alone,
        )

    def knows_the_end(self, task: Task) -> bool:
        """Say whether the forgetting players want to look unseen, so that a run can tell when it is over."""
        return self.wish in ("unseen", "shifted") or (self.wish == "auto" and task.knows_unseen)

    def _by_reach(self, loop: Loop, reach: float) -> MakeOptimizer:
        if self.lr is not None:
            return self.make_optimizer()
        norm = torch.stack([p.detach().norm() for p in loop.model.parameters() if p.requires_grad]).norm().item()
        return lambda parameters, steps: self.make_optimizer(lr=reach * norm / steps)(parameters, steps)

    def check(self, task: Task) -> None:
        """Add what the wish needs."""
        super().check(task)
        if self.wish == "unseen" and not task.knows_unseen:
            raise InvalidInputError(
                f"{type(self).__name__}(wish='unseen') must know what unseen examples look like: give the task a "
                "`validation` part, or use wish='auto', 'shifted' or 'relabel'."
            )
