"""Bad Teacher: on what is to be forgotten, learn from one who knows nothing."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.utils.data import Subset

from amnesty.data import dataset_of
from amnesty.methods.base import About, Iterative
from amnesty.seeds import derive, generator
from amnesty.tasks import Classification, Mean, Role, frozen, imitated
from amnesty.training import Count, Loop, NotNegative, Part, Positive
from amnesty.weights import renew_modules


@dataclass(frozen=True, kw_only=True)
class BadTeacher(Iterative):
    """Imitate a network that was never trained on the forget set, and the original on some of the retain set.

    ``KL(q^T || p^T)`` on one shuffled stream of the forget set and a random share of the retain set: q is what a
    copy of the model whose weights are all drawn anew says of the former, and what the original says of the latter.

    Args:
        retained: share of the retain set, in (0, 1], drawn once.
        temperature: T.

    Source: Chundawat et al., Can Bad Teaching Induce Forgetting?, AAAI 2023, arXiv:2205.08096. Published code divides
    the divergence by the number of classes too, which Adam hardly notices, and another benchmark's has a ResNet for a
    bad teacher whatever the student is.
    """

    about: ClassVar = About("Bad teacher", "BT", "Chundawat et al.", 2023, "arXiv:2205.08096", ("forget", "retain"))

    lr: Positive = 1e-4
    epochs: Count = 1
    optimizer: Literal["sgd", "adam"] = "adam"
    weight_decay: NotNegative = 0.0
    retained: Part = 0.3
    temperature: Positive = 1.0

    def run(self, task: Classification, loop: Loop) -> None:
        """Train on the mixture."""
        good, bad = frozen(loop.model), frozen(ignorant(loop.model, derive(loop.seed, "bad teacher")))
        retain = dataset_of(loop.parts["retain"], "retain")
        count = len(retain)  # type: ignore[arg-type]
        order = torch.randperm(count, generator=generator(loop.seed, "retained"))
        role, both = task.together(
            Role("forget", Mean(imitated(bad, self.temperature))),
            Role("retain", Mean(imitated(good, self.temperature))),
            Subset(retain, order[: max(1, int(self.retained * count))].sort().values.tolist()),
        )
        self.train(task, loop, {"together": role}, parts={"together": both}, retaining=("together",))


def ignorant(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy that knows nothing: every weight is new, frozen ones included."""
    fresh = copy.deepcopy(model).requires_grad_(True)
    renew_modules(fresh, [name for name, _ in fresh.named_parameters()], seed)
    return fresh
