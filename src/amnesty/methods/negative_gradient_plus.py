"""NegGrad+: descend on what is kept while ascending on what is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.bargaining import Sum
from amnesty.data import Pairing
from amnesty.methods.base import About, Method, sgd
from amnesty.tasks import Classification
from amnesty.training import BatchNormPolicy, Loop, Schedule


@dataclass(frozen=True, kw_only=True)
class NegGradPlus(Method):
    """Lower ``a CE(retain) - (1 - a) CE(forget)``, the forget set cycled along the retain set.

    ``retain_share`` is a, in (0, 1): the one sensitive setting, to be searched on a scale of log(1 - a). The
    second term is unbounded; ``cap`` stops each example at that cross-entropy (nats).

    Source: Kurmanji et al., SCRUB, NeurIPS 2023, arXiv:2302.09880 (a = 0.95 on small data, batch norm frozen).
    """

    about: ClassVar = About("NegGrad+", "Kurmanji et al. 2023", ("forget", "retain"))

    lr: float = 0.01
    epochs: int = 10
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 0.0
    retain_share: float = 0.95
    cap: float | None = None
    max_norm: float | None = None
    pairing: Pairing = "cycle_forget"
    schedule: Schedule = "constant"
    batch_norm: BatchNormPolicy = "eval"

    def run(self, task: Classification, loop: Loop) -> None:
        """Run the weighted sum of both."""
        loop.run(
            {"forget": task.ascended(self.cap), "retain": task.preserved()},
            optimizer=sgd(self.lr, self.momentum, self.weight_decay),
            epochs=self.epochs,
            rule=Sum((1 - self.retain_share, self.retain_share)),
            alone=Sum((self.retain_share,)),
            batch_size=self.batch_size,
            pairing=self.pairing,
            schedule=self.schedule,
            batch_norm=self.batch_norm,
            max_norm=self.max_norm,
        )

    def faults(self) -> list[str]:
        """Add a pairing that would leave the ascent without its weight."""
        found = super().faults()
        if self.pairing == "sequential":
            found.append("`pairing` must bring both players together, found 'sequential'")
        return found
