"""KDE: new first and last layers that learn from the old network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch.utils.data import Subset

from amnesty.data import dataset_of
from amnesty.errors import InvalidInputError
from amnesty.methods.base import About, Iterative
from amnesty.seeds import generator
from amnesty.tasks import Classification, Mean, Role, Source, blend, frozen, imitated, truth
from amnesty.training import Count, CountOrZero, Loop, Part, Positive, Schedule
from amnesty.weights import classifier_of, renew_modules
from amnesty.weights.layers import first_kernel


@dataclass(frozen=True, kw_only=True)
class KDE(Iterative):
    """Renew the first layer and the classifier, then learn from the original on some of the retain set, then on all.

    Warm-up: ``KL(p_0 || p)``; then ``CE(retain) + 2 KL(p_0 || p)``, where p_0 is the original's and p the new softmax
    at the temperature. The first layer is that of the first convolution; in a network without any, simply the first.

    Args:
        temperature: T of both softmaxes of the KL, which is not multiplied by T^2.
        warm_up_epochs, warm_up_lr: of the warm-up. lr, epochs, schedule: of what follows.
        warm_up_share: share of the retain set that the warm-up sees.
        uses_validation: let the warm-up see the validation part instead, as published. It is then no longer unseen:
            do not test membership against it.

    Source: sixth of the NeurIPS 2023 unlearning challenge, in Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276,
    where one of the two KL is written as a cross-entropy with soft labels, whose gradient is the same.
    """

    about: ClassVar = About(
        "Distillation and entropy", "KDE", "Cadet et al.", 2024, "arXiv:2410.01276", ("retain",), ("validation",)
    )

    lr: Positive = 1e-3
    epochs: Count = 3
    schedule: Schedule = "cosine"
    temperature: Positive = 5.0
    warm_up_epochs: CountOrZero = 3
    warm_up_lr: Positive = 9e-4
    warm_up_share: Part = 0.15
    uses_validation: bool = False

    def run(self, task: Classification, loop: Loop) -> None:
        """Renew, warm up, fine-tune."""
        teacher = frozen(loop.model)
        loop.hold(self.masks(task, loop))
        homes = first_kernel(loop.model, task.probe).rpartition(".")[0], classifier_of(loop.model, task.probe)
        names = [name for name, _ in loop.model.named_parameters() if name.rpartition(".")[0] in homes]
        renew_modules(loop.model, names, loop.seed)
        bare, alike = replace(self, saliency=None), imitated(teacher, self.temperature)
        if self.warm_up_epochs:
            bare.train(
                task,
                loop,
                {"warm_up": Role("warm_up", Mean(alike))},
                parts={"warm_up": self._warm_up(task, loop)},
                retaining=("warm_up",),
                epochs=self.warm_up_epochs,
                optimizer=bare.make_optimizer(lr=self.warm_up_lr),
                schedule="constant",
            )
        bare.train(task, loop, {"retain": Role("retain", Mean(blend((1.0, truth), (2.0, alike))))})

    def _warm_up(self, task: Classification, loop: Loop) -> Source:
        if self.uses_validation:
            return task.parts["validation"]
        total = len(task.labels("retain"))
        order = torch.randperm(total, generator=generator(loop.seed, "warm-up"))
        some = order[: max(1, round(self.warm_up_share * total))].tolist()
        return Subset(dataset_of(task.parts["retain"], "retain"), some)

    def check(self, task: Classification) -> None:
        """Add what the warm-up needs, and the two layers."""
        super().check(task)
        if self.uses_validation and "validation" not in task.parts:
            raise InvalidInputError(
                "KDE(uses_validation=True) warms up on the validation set, which this task does not have; it has "
                f"{', '.join(task.parts)}."
            )
        first_kernel(task.model, task.probe)
        classifier_of(task.model, task.probe)
        if not self.uses_validation:
            dataset_of(task.parts["retain"], "retain")
