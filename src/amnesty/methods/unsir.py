"""UNSIR: impair with noise made against a class, then repair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from amnesty.data import Examples, WithLabels
from amnesty.errors import InvalidInputError
from amnesty.methods.base import About, Iterative
from amnesty.seeds import generator
from amnesty.tasks import Classification, Role, cross_entropy, frozen
from amnesty.tasks.noise import impairing_noise
from amnesty.tasks.relabelling import labelled_part, some_of_each
from amnesty.training import Count, CountOrZero, Loop, NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class UNSIR(Iterative):
    """Teach a forgotten class with noise that looks like anything but it, then repair on a little of what is kept.

    1. Noise for each forgotten class c, on the frozen original: Adam on ``-CE(z(N), c) + penalty * |N|^2``.
    2. Impair: cross-entropy on copies of the noise, labelled c, among some retained examples.
    3. Repair: cross-entropy on these retained examples alone.

    Forget examples are never read, only which classes are forgotten; a ``saliency`` mask would read them.

    Args:
        lr, epochs, batch_size: of the repair. impair_lr, impair_epochs, impair_batch_size: of the impairing phase.
        noise_size: examples of noise for each class. noise_steps, noise_lr: of Adam. noise_penalty: see above.
        copies: of the noise in the impairing phase.
        per_class: retained examples of each class, at most.

    Source: Tarun et al., UNSIR, 2023, arXiv:2111.08947. The published code moves batch-norm statistics by the noise
    while it is learned, and adds the gradients of that phase to the first impairing step.
    """

    about: ClassVar = About("UNSIR", "UNSIR", "Tarun et al.", 2023, "arXiv:2111.08947", ("retain", "class"))

    lr: Positive = 1e-4
    epochs: Count = 1
    batch_size: Count = 128
    optimizer: Literal["sgd", "adam"] = "adam"
    weight_decay: NotNegative = 0.0
    impair_lr: Positive = 1e-4
    impair_epochs: Count = 1
    impair_batch_size: Count = 32
    noise_size: Count = 32
    noise_steps: CountOrZero = 25
    noise_lr: Positive = 0.1
    noise_penalty: NotNegative = 0.1
    copies: Count = 80
    per_class: Count = 500

    def run(self, task: Classification, loop: Loop) -> None:
        """Learn the noise, impair, repair."""
        retain = labelled_part(task, "retain")
        kept = Subset(retain, some_of_each(retain.labels, self.per_class, generator(loop.seed, "retained")))
        mixture: Dataset[Any] = ConcatDataset([*self._noise(task, loop), kept])
        plain, masks = replace(self, saliency=None), self.masks(task, loop)
        impair = replace(plain, lr=self.impair_lr, epochs=self.impair_epochs, batch_size=self.impair_batch_size)
        for name, phase, data in (("impair", impair, mixture), ("retain", plain, kept)):
            role = Role("chosen", cross_entropy)
            phase.train(task, loop, {name: role}, parts={"chosen": data}, masks=masks)

    def _noise(self, task: Classification, loop: Loop) -> list[WithLabels]:
        teacher, probe, found = frozen(loop.model), task.probe, []
        for c in task.forgotten_classes:
            noise = impairing_noise(
                teacher,
                c,
                (self.noise_size, *probe.shape[1:]),
                steps=self.noise_steps,
                lr=self.noise_lr,
                penalty=self.noise_penalty,
                generator=generator(loop.seed, "impairing noise", c),
            )
            labelled = Examples(noise.to(probe.dtype), torch.full((len(noise),), c))
            copies = Subset(labelled, self.copies * list(range(len(noise))))
            found.append(WithLabels(copies, torch.full((len(copies),), c)))
        return found

    def check(self, task: Classification) -> None:
        """Add that nothing but whole classes is to be forgotten, and that noise is a possible input."""
        super().check(task)
        partly = set(task.labels("forget").tolist()) - set(task.forgotten_classes)
        if partly:
            raise InvalidInputError(
                f"UNSIR forgets whole classes only, but the retain set has examples of {len(partly)} of the classes "
                f"in the forget set, such as {task.class_names[min(partly)]}."
            )
        if not task.probe.is_floating_point():
            raise InvalidInputError(f"UNSIR makes inputs of noise: they must be floats, found {task.probe.dtype}.")
