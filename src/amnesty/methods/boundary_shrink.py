"""Boundary Shrink: what is to be forgotten goes over to its nearest neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from amnesty.data import WithLabels
from amnesty.data.examples import reads_batches
from amnesty.methods.base import About, Iterative
from amnesty.tasks import Classification, Mean, Role, cross_entropy, device_of, frozen, nearest_wrong
from amnesty.tasks.boundary import Pixels, nearest_wrong_labels
from amnesty.training import Loop, Positive


@dataclass(frozen=True, kw_only=True)
class BoundaryShrink(Iterative):
    """Teach each forget example its nearest wrong class, where one adversarial step leads the original.

    ``CE(z(x), y')`` on the forget set alone, ``y' = argmax_{c != y} z_0(x + radius * sign(grad_x CE(z_0(x), y)))``,
    z_0 being the original. Data in memory is asked once; other data, which may be augmented, anew in each batch.

    Args:
        radius: of the step, in pixels of [0, 1], which are then rounded to 256 levels.
        mean, std: with which the data pipeline normalises images, one number or one per channel; none where the model
            does so itself, or nobody. Pixels outside [0, 1] are refused.

    Source: Chen et al., Boundary Unlearning, CVPR 2023, arXiv:2303.11570, Section 3.2. The published code teaches the
    true class again where the step stays within it, and takes the step in whatever the pipeline makes of pixels.
    """

    about: ClassVar = About("Boundary Shrink", "BS", "Chen et al.", 2023, "arXiv:2303.11570", ("forget",))

    lr: Positive = 1e-5
    radius: Positive = 0.1
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)

    def run(self, task: Classification, loop: Loop) -> None:
        """Train on the forget set under its new labels."""
        teacher, source, pixels = frozen(loop.model), loop.parts["forget"], Pixels(self.mean, self.std)
        if reads_batches(source):
            known = WithLabels(source, nearest_wrong_labels(teacher, source, self.radius, pixels))  # type: ignore[arg-type]
            self.train(task, loop, {"forget": Role("crossed", cross_entropy)}, parts={"crossed": known})
            return
        mean, deviation = pixels.beside(task.probe.to(device_of(teacher)))
        role = Role("forget", Mean(nearest_wrong(teacher, self.radius, mean, deviation)))
        self.train(task, loop, {"forget": role})

    def check(self, task: Classification) -> None:
        """Add that the forget set has pixels, as it turns out by reading it."""
        super().check(task)
        Pixels(self.mean, self.std).check(task.parts["forget"], "forget")

    def faults(self) -> list[str]:
        """Add what no normalisation has."""
        found = super().faults()
        if not self.mean or not self.std or not all(x > 0 for x in self.std):
            found.append(f"`mean` must hold numbers and `std` positive ones, found {self.mean!r} and {self.std!r}")
        return found
