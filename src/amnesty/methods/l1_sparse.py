"""l1-sparse: fine-tuning that also wears the weights down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.tasks import Task
from amnesty.training import CountOrZero, Loop, NotNegative, shrink
from amnesty.training.to_zero import shrink_to_zero


@dataclass(frozen=True, kw_only=True)
class L1Sparse(Iterative):
    """Cross-entropy on the retain set, and a pull of every weight towards zero that fades away.

    Lowers ``CE(retain) + l1 (1 - e / (E - E_0)) |theta|_1`` in pass e = 0, 1, ... of E, and ``CE(retain)`` alone in
    the last E_0. |theta|_1 is over all parameters, those of norm layers and biases too.

    Args:
        l1: strength of the pull at the start; 1e-6 to 1e-3 makes sense.
        free_epochs: E_0, passes at the end without a pull; where all are, the pull is constant instead, as published.
        proximal: weights that arrive at zero stay there, by a soft threshold after each step. As published, by the
            subgradient, no weight becomes exactly zero.

    Source: Jia et al., NeurIPS 2023, arXiv:2304.04934. Their code has 0.2 for ``l1``, from a flag shared with other
    methods, which destroys a network.
    """

    about: ClassVar = About("l1-sparse unlearning", "l1-sparse", "Jia et al.", 2023, "arXiv:2304.04934", ("retain",))
    classifiers_only: ClassVar = False

    l1: NotNegative = 1e-4
    free_epochs: CountOrZero = 0
    proximal: bool = False

    def run(self, task: Task, loop: Loop) -> None:
        """Train on the retain set under the pull."""
        if self.proximal:
            optimizer, hook = shrink_to_zero(self.make_optimizer(), self._strength)
        else:
            optimizer, hook = self.make_optimizer(), shrink(loop.model, self._strength)
        self.train(task, loop, {"retain": task.preserved()}, optimizer=optimizer, hooks=[hook])

    def _strength(self, epoch: int) -> float:
        pulled = self.epochs - self.free_epochs
        return self.l1 * max(0.0, 1 - (epoch - 1) / pulled) if pulled else self.l1

    def faults(self) -> list[str]:
        """Add more free passes than passes."""
        found = super().faults()
        if not found and self.free_epochs > self.epochs:
            found.append(f"`free_epochs` must be at most `epochs`, {self.epochs}, found {self.free_epochs}")
        return found
