"""EU-k: retraining of the last stages only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.tasks import Classification
from amnesty.training import Count, Loop, NotNegative, Schedule
from amnesty.training.freezing import only_trainable
from amnesty.training.schedules import by_epoch, milestones
from amnesty.weights import renew_modules
from amnesty.weights.layers import last_stages


@dataclass(frozen=True, kw_only=True)
class EUk(Iterative):
    """Train the last stages of the network anew on the retain set; the others are frozen.

    The last k stages and the classifier start from new weights and new batch-norm statistics, drawn as their modules
    do themselves.

    Args:
        epochs: as many as the original was trained for.
        stages: k, see `amnesty.weights.stages`; the classifier is renewed beside them.
        schedule: ``None`` lowers the learning rate to a tenth after 50, 80 and 90 % of the passes.

    Source: Goel et al. 2022, arXiv:2201.06640; settings of Kurmanji et al., SCRUB, NeurIPS 2023, arXiv:2302.09880,
    and of Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276. Published code leaves the classifier frozen at random
    weights, or keeps batch-norm statistics of the old ones, or pulls the new weights back to where they started.
    """

    about: ClassVar = About(
        "Exact unlearning of the last k stages", "EU-k", "Goel et al.", 2022, "arXiv:2201.06640", ("retain",)
    )

    epochs: Count = 30
    batch_size: Count = 64
    momentum: NotNegative = 0.0
    weight_decay: NotNegative = 0.0
    schedule: Schedule | None = None  # type: ignore[assignment]
    stages: Count = 1

    def run(self, task: Classification, loop: Loop) -> None:
        """Renew the last stages and train them on the retain set."""
        loop.hold(self.masks(task, loop))
        names = last_stages(loop.model, task.probe, self.stages)
        with only_trainable(loop.model, names):
            renew_modules(loop.model, names, loop.seed)
            replace(self, saliency=None).train(
                task,
                loop,
                {"retain": task.preserved()},
                schedule=self.schedule or by_epoch(milestones(self.epochs)),
            )

    def check(self, task: Classification) -> None:
        """Add that there are so many stages."""
        super().check(task)
        last_stages(task.model, task.probe, self.stages)

    def faults(self) -> list[str]:
        """Add a policy under which new batch norms would never see data."""
        found = super().faults()
        if self.batch_norm == "eval":
            found.append("`batch_norm` must be 'train' or 'retain_stats', as new statistics are taken, found 'eval'")
        return found
