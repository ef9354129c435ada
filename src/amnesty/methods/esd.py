"""Erased stable diffusion: away from the concept, on the way to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from amnesty.bargaining import Sum
from amnesty.methods.base import About, AnyTask, Iterative
from amnesty.training import Count, Loop, NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class ESD(Iterative):
    """Answer for a concept what leads away from it: ``n - eta (c - n)``; nothing is kept on purpose.

    n and c are the original's answers for no prompt and for the concept. Images are not needed: each batch goes a
    random share of the way from noise to the concept.

    Args:
        steps: of training, in each epoch. eta: how far away. guidance: on the way, as diffusers counts.
        way: steps of the whole way, of a sampler without noise.

    Source: Gandikota et al., Erasing Concepts from Diffusion Models, ICCV 2023, arXiv:2303.07345, Eq. 6. ``esd-x`` is
    a task with ``train="xattn"``, for styles and things; ``esd-u`` one with ``train="esd_u"``. There the way is that
    of the model under training; here it is the original's, as in the authors' later code.
    """

    about: ClassVar = About(
        "Erased stable diffusion", "ESD", "Gandikota et al.", 2023, "arXiv:2303.07345", ("generator",)
    )
    classifiers_only: ClassVar = False

    lr: Positive = 1e-5
    epochs: Count = 1
    optimizer: Literal["sgd", "adam"] = "adam"
    weight_decay: NotNegative = 0.0
    batch_size: Count = 1
    steps: Count = 1000
    eta: NotNegative = 1.0
    guidance: NotNegative = 3.0
    way: Count = 50

    def run(self, task: AnyTask, loop: Loop) -> None:
        """Train on the way from noise to the concepts."""
        role, asked = task.erased(self.eta, self.guidance, self.way, self.steps * self.batch_size)
        self.train(task, loop, {"forget": role}, rule=Sum(), parts={"asked": asked}, retaining=("forget",))
