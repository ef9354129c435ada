"""Boundary Expanding: what is to be forgotten goes to a class of its own, which is then taken away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from amnesty.methods.base import About, Iterative
from amnesty.seeds import generator
from amnesty.tasks import Classification, Mean, Role, labelled_as
from amnesty.training import Loop, Positive
from amnesty.weights.shadow import linear_classifier, shadow_class


@dataclass(frozen=True, kw_only=True)
class BoundaryExpanding(Iterative):
    """Teach the forget set a class that does not exist, then take that class away.

    ``CE((z(x), w'h(x) + b), C)`` on the forget set alone, h being what the classifier sees and C the number of
    classes. Afterwards the model has its C logits again. Only for models whose logits are the plain outputs of a
    linear layer.

    Source: Chen et al., Boundary Unlearning, CVPR 2023, arXiv:2303.11570, Section 3.3. The published code keeps the
    class, and measures accuracy with it.
    """

    about: ClassVar = About("Boundary Expanding", "BE", "Chen et al.", 2023, "arXiv:2303.11570", ("forget",))

    lr: Positive = 1e-5

    def run(self, task: Classification, loop: Loop) -> None:
        """Train on the forget set with one class more."""
        masks = self.masks(task, loop)  # those of the model as it is
        classifier = linear_classifier(loop.model, task.probe)
        role = Role("forget", Mean(labelled_as(task.classes)))
        with shadow_class(loop.model, classifier, generator(loop.seed, "shadow")):
            replace(self, saliency=None).train(task, loop, {"forget": role}, masks=masks)

    def check(self, task: Classification) -> None:
        """Add that the classifier can have one class more."""
        super().check(task)
        linear_classifier(task.model, task.probe)
