"""CF-k: fine-tuning of the last stages only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.tasks import Classification
from amnesty.training import BatchNormPolicy, Count, Loop, NotNegative, Schedule, pull_back
from amnesty.training.freezing import only_trainable
from amnesty.training.schedules import by_epoch, milestones
from amnesty.weights.layers import last_stages


@dataclass(frozen=True, kw_only=True)
class CFk(Iterative):
    """Cross-entropy on the retain set, for the last stages of the network; the others are frozen.

    Lowers ``CE(retain) + pull / 2 |theta - theta_0|^2`` over the weights of the last k stages and the classifier.

    Args:
        stages: k, see `amnesty.weights.stages`; the classifier is trained beside them.
        pull: strength of the pull back to the original weights.
        schedule: ``None`` lowers the learning rate to a tenth after 50, 80 and 90 % of the passes.

    Source: Goel et al. 2022, arXiv:2201.06640; settings of Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276, and
    Kurmanji et al., SCRUB, NeurIPS 2023, arXiv:2302.09880, whose code never trains the classifier of some networks.
    """

    about: ClassVar = About(
        "Catastrophic forgetting of the last k stages", "CF-k", "Goel et al.", 2022, "arXiv:2201.06640", ("retain",)
    )

    batch_size: Count = 64
    momentum: NotNegative = 0.0
    weight_decay: NotNegative = 0.0
    schedule: Schedule | None = None  # type: ignore[assignment]
    batch_norm: BatchNormPolicy = "eval"
    stages: Count = 1
    pull: NotNegative = 0.1

    def run(self, task: Classification, loop: Loop) -> None:
        """Train the last stages on the retain set."""
        with only_trainable(loop.model, last_stages(loop.model, task.probe, self.stages)):
            self.train(
                task,
                loop,
                {"retain": task.preserved()},
                schedule=self.schedule or by_epoch(milestones(self.epochs)),
                hooks=[pull_back(loop.model, self.pull)] if self.pull else [],
            )

    def check(self, task: Classification) -> None:
        """Add that there are so many stages."""
        super().check(task)
        last_stages(task.model, task.probe, self.stages)
