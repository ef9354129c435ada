"""CFW: shake the first layer, fine-tune, shake it a little again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from amnesty.errors import InvalidInputError
from amnesty.methods.base import About, Iterative
from amnesty.seeds import generator
from amnesty.tasks import Classification, Mean, Role, weighted
from amnesty.training import Count, Hook, Loop, NotNegative, Positive, Schedule
from amnesty.training.rarity import rarity
from amnesty.weights import add_noise
from amnesty.weights.layers import first_kernel


@dataclass(frozen=True, kw_only=True)
class CFW(Iterative):
    """Add noise to the first kernel, then fine-tune on the retain set with weighted classes.

    The kernel is that of the first convolution; in a network without any, of the first layer.

    Args:
        first_noise: deviation of the noise before the first pass. last_noise: before the last one.
        class_weights: of the cross-entropy. ``"balanced"``: every class counts alike; or a number for each class;
            ``None``: every example counts alike.

    Source: third of the NeurIPS 2023 unlearning challenge, in Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276.
    Their code multiplies the mean loss of a batch by the mean weight, which is no class weight; and with one pass it
    never comes to the second noise.
    """

    about: ClassVar = About(
        "Confuse, fine-tune, weaken", "CFW", "Cadet et al.", 2024, "arXiv:2410.01276", ("retain",)
    )

    lr: Positive = 7e-4
    epochs: Count = 4
    schedule: Schedule = "cosine"
    first_noise: NotNegative = 0.6
    last_noise: NotNegative = 0.005
    class_weights: Literal["balanced"] | Sequence[float] | None = "balanced"

    def run(self, task: Classification, loop: Loop) -> None:
        """Shake, then fine-tune."""
        loop.hold(self.masks(task, loop))
        kernel = first_kernel(loop.model, task.probe)

        def shake(when: str, sigma: float) -> None:
            add_noise(loop.model, [kernel], sigma, generator(loop.seed, "noise", when))
            loop.settle()

        def before_the_last(epoch: int) -> None:
            if epoch == self.epochs:
                shake("last", self.last_noise)

        shake("first", self.first_noise)
        wish = Role("retain", Mean(weighted(self._weights(task))))
        replace(self, saliency=None).train(task, loop, {"retain": wish}, hooks=[Hook(start_epoch=before_the_last)])

    def _weights(self, task: Classification) -> Tensor:
        if self.class_weights == "balanced":
            return rarity(task.labels("retain"), task.classes)
        if self.class_weights is None:
            return torch.ones(task.classes)
        return torch.tensor([float(w) for w in self.class_weights])

    def check(self, task: Classification) -> None:
        """Add that there is one weight for each class, and not all of them 0."""
        super().check(task)
        weights = self._weights(task)
        if len(weights) != task.classes:
            raise InvalidInputError(f"`class_weights` has {len(weights)} entries for {task.classes} classes.")
        if not weights[task.labels("retain")].any():
            raise InvalidInputError("`class_weights` are 0 for every class in the retain set.")
        first_kernel(task.model, task.probe)

    def faults(self) -> list[str]:
        """Add weights that are none."""
        found = super().faults()
        given = self.class_weights
        right = given == "balanced" if isinstance(given, str) else given is None or all(map(_is_weight, given))
        if not right:
            found.append(f"`class_weights` must be 'balanced', None or numbers of at least 0, found {given!r}")
        return found


def _is_weight(number: object) -> bool:
    return isinstance(number, int | float) and 0 <= number < math.inf
