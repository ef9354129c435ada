"""NegGrad+: descend on what is kept while ascending on what is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.bargaining import Sum
from amnesty.data import Meeting
from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import BatchNormPolicy, Between, Loop, NotNegative, Positive, pull_back


@dataclass(frozen=True, kw_only=True)
class NegGradPlus(Iterative):
    """Lower ``a CE(retain) - (1 - a) CE(forget)``, the forget set cycled along the retain set.

    Args:
        retain_share: a, in (0, 1): the one sensitive setting, to be searched on a scale of log(1 - a).
        pull: strength of a pull back to the original weights, ``a pull / 2 |theta - theta_0|^2``.
        cap: cross-entropy (nats) at which an example is forgotten enough; without it the second term is unbounded.
        pairing: how batches meet; see `amnesty.data.pair`.

    Source: Kurmanji et al., SCRUB, NeurIPS 2023, arXiv:2302.09880 (a = 0.95 on small data, batch norm frozen).
    """

    about: ClassVar = About("NegGrad+", "NG+", "Kurmanji et al.", 2023, "arXiv:2302.09880", ("forget", "retain"))
    classifiers_only: ClassVar = False

    weight_decay: NotNegative = 0.0
    retain_share: Between = 0.95
    pull: NotNegative = 0.0
    cap: Positive | None = None
    pairing: Meeting = "cycle_forget"
    batch_norm: BatchNormPolicy = "eval"

    def run(self, task: Task, loop: Loop) -> None:
        """Run the weighted sum of both."""
        self.train(
            task,
            loop,
            {"forget": task.ascended(self.cap), "retain": task.preserved()},
            rule=Sum((1 - self.retain_share, self.retain_share)),
            alone=Sum((self.retain_share,)),
            pairing=self.pairing,
            hooks=[pull_back(loop.model, self.retain_share * self.pull)] if self.pull else [],
        )
