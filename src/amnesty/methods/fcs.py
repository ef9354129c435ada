"""FCS: forget, contrast, strengthen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.tasks import Classification, Mean, Role, contrasted, uniform
from amnesty.training import Count, Loop, NotNegative, Positive
from amnesty.training.phases import lasting
from amnesty.training.schedules import cosine_to, stretched


@dataclass(frozen=True, kw_only=True)
class FCS(Iterative):
    """Make the forget set look like nothing in particular, then like no retained example, repairing in between.

    1. One pass over the forget set on ``KL(u || p)``, u uniform.
    2. ``epochs`` times: a pass over pairs of a forget and a retain batch on
       ``-mean_ij log softmax_j(z_i . z_j / T)``, as long as both last; then a pass over the retain set on CE.

    Each of the three kinds of pass has an optimiser of its own, whose momentum lasts from epoch to epoch.

    Args:
        lr, batch_size, weight_decay: of the passes on CE. Published is ``lr = 1e-3 * batch_size / 64``. schedule: of
            ``lr``, over all epochs.
        uniform_lr: of the first pass.
        contrast_lr: of the pairs; it falls to ``least_lr`` by a cosine over all epochs.
        forget_batch_size: of the forget set, and of both batches in a pair.
        temperature: T.

    Source: first place of the NeurIPS 2023 Machine Unlearning Challenge (Kaggle), as FCS in Cadet et al., Deep
    Unlearn, 2024, arXiv:2410.01276.
    """

    about: ClassVar = About(
        "Forget, contrast, strengthen", "FCS", "Cadet et al.", 2024, "arXiv:2410.01276", ("forget", "retain")
    )

    lr: Positive = 4e-3
    epochs: Count = 8
    weight_decay: NotNegative = 1e-2
    uniform_lr: Positive = 0.005
    contrast_lr: Positive = 3e-4
    least_lr: NotNegative = 1e-6
    forget_batch_size: Count = 256
    temperature: Positive = 1.15

    def run(self, task: Classification, loop: Loop) -> None:
        """Run the passes."""
        settings = {"epochs": 1, "masks": self.masks(task, loop)}
        passes = replace(self, saliency=None)
        first = {"optimizer": self.make_optimizer(lr=self.uniform_lr, weight_decay=0.0), "schedule": "constant"}
        on_forget = {"batch_size": self.forget_batch_size, "pairing": "truncate", **settings}
        passes.train(task, loop, {"forget": Role("forget", Mean(uniform))}, **on_forget | first)
        contrast = lasting(self.make_optimizer(lr=self.contrast_lr, weight_decay=0.0))
        strengthen = lasting(self.make_optimizer())
        falling = cosine_to(min(1.0, self.least_lr / self.contrast_lr))
        pairs = Role("forget", contrasted(self.temperature), beside="retain")
        for k in range(self.epochs):
            schedule = stretched(falling, k, self.epochs)
            passes.train(task, loop, {"forget": pairs}, optimizer=contrast, schedule=schedule, **on_forget)
            schedule = stretched(self.schedule, k, self.epochs)
            players = {"retain": task.preserved()}
            passes.train(task, loop, players, optimizer=strengthen, schedule=schedule, **settings)
