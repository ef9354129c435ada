"""LUR: forget at the point where a retaining step would lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from amnesty.bargaining import Lookahead, Nash, Rule, Sum
from amnesty.bargaining.lookahead import CurvatureKind
from amnesty.data import Meeting
from amnesty.errors import InvalidInputError
from amnesty.methods.base import About
from amnesty.methods.negotiated import Negotiated
from amnesty.tasks import Task, Wish
from amnesty.training import Count, Loop, NotNegative, Positive, Share
from amnesty.training.smooth import check_smooth
from amnesty.training.trimming import trim_stages, trimmable

_RATE = 0.01


@dataclass(frozen=True, kw_only=True)
class LUR(Negotiated):
    """Forget at the weights to which a retaining step would lead, so that repairing does not bring it back.

    With retain loss R and forget loss F a step descends on ``R(theta) + forget_weight * F(theta')`` where
    ``theta' = theta - step * grad R(theta)``, whose gradient is
    ``grad R + forget_weight * (I - step * H_R) grad F(theta')``. Before the first step, of the share ``trim`` of all
    weights that matter most to the forget set, those in the last ``stages`` are drawn anew; see
    `amnesty.weights.snip_trim`.

    Args:
        rule: how gradients become one update. ``None``: their sum, each forgetting player's times ``forget_weight``;
            ``LUR(rule=Nash())`` bargains over lookahead gradients; `bargained` is that with settings that suit it.
        forget_weight: see ``rule``, which has it where it is ``None``.
        step: of the look ahead, in units of a learning rate. ``None``: ``lr``, or 0.01 where that is ``None`` too (an
            ``lr`` found by ``reach`` is a distance, not a rate).
        order: whose step is looked past: ``"retain"``, as published; ``"forget"``: the retaining player looks past
            the forgetting one, of which there must be one.
        curvature: how the Hessian term is had; see `amnesty.bargaining.Lookahead`.
        trim: 1 minus the published sparsity kappa. trim_batches: of the forget set, to tell what matters.
        stages: that may be trimmed; 3 of a ResNet are its last two groups of blocks and the classifier.

    Source: Patel & Qiu, Learning to Unlearn while Retaining, ICCV 2025, arXiv:2503.06339; 0.03 and 3 are its settings
    of trimming for CIFAR-10. ``step``, ``forget_weight``, ``max_norm`` and the optimiser are ours.
    """

    about: ClassVar = About(
        "Learning to unlearn while retaining",
        "LUR",
        "Patel & Qiu",
        2025,
        "arXiv:2503.06339",
        ("forget", "retain"),
        ("validation",),
    )
    classifiers_only: ClassVar = False

    lr: Positive | None = _RATE
    max_norm: Positive | None = 1.0
    wish: Wish = "ascend"
    pairing: Meeting = "retain_tail"
    rule: Rule | None = None
    forget_weight: NotNegative = 0.1
    step: Positive | None = None
    order: Literal["retain", "forget"] = "retain"
    curvature: CurvatureKind = "exact"
    trim: Share = 0.03
    trim_batches: Count = 1
    stages: Count = 3

    @classmethod
    def bargained(cls, **changes: Any) -> LUR:
        """Return lookahead players under Nash's rule, with the defaults of `MUNBa` otherwise, and ``changes``."""
        settings: dict[str, Any] = {
            **{"rule": Nash(), "step": _RATE, "trim": 0.0, "lr": None, "max_norm": None, "wish": "auto"},
            **{"epochs": 2, "at_least": 60, "batch_size": 96, "forget_batch_size": 32},
            **{"pairing": "cycle_forget", "schedule": "linear", "batch_norm": "retain_stats"},
        }
        return cls(**settings | changes)

    def run(self, task: Task, loop: Loop) -> None:
        """Trim, then run the lookahead loop."""
        masks = self.masks(task, loop)
        names = trimmable(loop.model, task.probe, self.stages)
        size = self.forget_batch_size
        trim_stages(loop, names, self.trim, task.learnt, batches=self.trim_batches, batch_size=size)
        forgetting = list(task.sets) or ["forget"]
        rule = self.rule or Sum((*len(forgetting) * [self.forget_weight], 1.0))
        self.negotiate(task, loop, rule=rule, lookahead=self._looks(forgetting), masks=masks)

    def _looks(self, forgetting: list[str]) -> dict[str, Lookahead]:
        step = self.step or self.lr or _RATE
        if self.order == "forget":
            return {"retain": Lookahead(step, after=forgetting[0], curvature=self.curvature)}
        return {name: Lookahead(step, after="retain", curvature=self.curvature) for name in forgetting}

    def check(self, task: Task) -> None:
        """Add that there are stages to trim, one step to look past, and a smooth network for finite differences."""
        super().check(task)
        trimmable(task.model, task.probe, self.stages)
        if self.curvature == "finite-difference":
            check_smooth(task.model, task.probe, "LUR(curvature='finite-difference')")
        if self.order == "forget" and len(task.sets) > 1:
            raise InvalidInputError(
                f"LUR(order='forget') looks past one forgetting player, but there are {len(task.sets)} named forget "
                f"sets: {', '.join(task.sets)}. Give them as one set, or use order='retain'."
            )
