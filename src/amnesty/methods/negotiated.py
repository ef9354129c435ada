"""What MUNBa and its kin share: players who meet in every step, and a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from amnesty.bargaining import Lookahead, Rule
from amnesty.data import Meeting
from amnesty.errors import InvalidInputError
from amnesty.methods.base import Iterative
from amnesty.tasks import Classification, Wish
from amnesty.training import Count, CountOrZero, Loop, MakeOptimizer, Positive


@dataclass(frozen=True, kw_only=True)
class Negotiated(Iterative):
    """A method whose forgetting players (one for each named forget set) and retaining player share every step.

    Args:
        lr: the learning rate. ``None``: ``reach * |theta| / steps``, |theta| being the length of the weights that may
            move. An update that a rule made of unit length is a distance, whatever the losses.
        reach: how far the run may go, as a share of the length of the weights; used where ``lr`` is ``None``.
        at_least: steps that the run has at least.
        batch_size, forget_batch_size: of the retaining player, and of each forgetting one.
        wish: what the forgetting players want; see `Classification.wished`. cap: of ``wish="ascend"``, nats.
        pairing: how batches meet; see `amnesty.data.pair`.
    """

    lr: Positive | None = None  # type: ignore[assignment]
    reach: Positive = 0.14
    at_least: CountOrZero = 0
    forget_batch_size: Count = 256
    wish: Wish = "auto"
    cap: Positive | None = None
    pairing: Meeting = "cycle_forget"

    def negotiate(
        self,
        task: Classification,
        loop: Loop,
        rule: Rule,
        lookahead: Mapping[str, Lookahead] | None = None,
        **other: Any,
    ) -> None:
        """Run the loop with a forgetting player for each forget set, then the retaining player."""
        forgetting = task.each(task.wished(self.wish, self.cap))
        self.train(
            task,
            loop,
            {**forgetting, "retain": task.preserved()},
            rule=rule,
            lookahead=lookahead,
            at_least=self.at_least,
            batch_size={**dict.fromkeys(forgetting, self.forget_batch_size), "retain": self.batch_size},
            pairing=self.pairing,
            **{"optimizer": self._by_reach(loop)} | other,
        )

    def _by_reach(self, loop: Loop) -> MakeOptimizer:
        if self.lr is not None:
            return self.make_optimizer()
        norm = torch.stack([p.detach().norm() for p in loop.model.parameters() if p.requires_grad]).norm().item()
        return lambda parameters, steps: self.make_optimizer(lr=self.reach * norm / steps)(parameters, steps)

    def check(self, task: Classification) -> None:
        """Add what the wish needs."""
        super().check(task)
        if self.wish == "unseen" and not task.knows_unseen:
            raise InvalidInputError(
                f"{type(self).__name__}(wish='unseen') must know what unseen examples look like: give the task a "
                "`validation` part, or use wish='auto', 'shifted' or 'relabel'."
            )
