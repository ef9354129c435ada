"""CT: turn every kernel over its diagonal, and repair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from amnesty.errors import ModelError
from amnesty.methods.base import About, Iterative
from amnesty.tasks import Classification
from amnesty.training import Count, Loop, Positive, Schedule
from amnesty.weights.transposing import transposable, transpose


@dataclass(frozen=True, kw_only=True)
class CT(Iterative):
    """Swap height and width of every convolution kernel, then fine-tune on the retain set.

    Kernels of 1 x 1 stay, and those that are not square, or whose stride, padding or dilation is not.

    Source: fifth of the NeurIPS 2023 unlearning challenge, in Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276.
    """

    about: ClassVar = About("Convolution transpose", "CT", "Cadet et al.", 2024, "arXiv:2410.01276", ("retain",))

    lr: Positive = 1e-3
    epochs: Count = 3
    schedule: Schedule = "cosine"

    def run(self, task: Classification, loop: Loop) -> None:
        """Transpose, then fine-tune."""
        loop.hold(self.masks(task, loop))
        transpose(loop.model)
        replace(self, saliency=None).train(task, loop, {"retain": task.preserved()})

    def check(self, task: Classification) -> None:
        """Add that there is something to transpose."""
        super().check(task)
        if not transposable(task.model):
            raise ModelError(
                f"CT finds nothing to transpose: this {type(task.model).__name__} has no square kernel of a 2-d "
                "convolution, larger than 1 x 1, that may change. Use another method, such as MSG or CFW."
            )
