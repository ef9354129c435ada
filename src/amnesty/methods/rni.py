"""RNI: noise on a few layers at a time, then on none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from amnesty.methods.base import About, Iterative
from amnesty.seeds import generator
from amnesty.tasks import Classification
from amnesty.training import Count, CountOrZero, Loop, NotNegative, Positive, Share
from amnesty.training.freezing import only_trainable
from amnesty.training.schedules import stretched
from amnesty.weights import add_noise, classifier_of, norm_parameters, renew_modules


@dataclass(frozen=True, kw_only=True)
class RNI(Iterative):
    """Renew the classifier, then fine-tune a few layers in each pass, with noise on some of them, and all at the end.

    In each pass some parameter tensors drawn at random, and those of all norm layers, are trained on the retain set,
    the others frozen. Some of those drawn get noise first, but for those that were drawn in an earlier pass. Every
    pass starts its optimiser anew.

    Args:
        epochs: passes in all. fine_epochs: the last of them, which train everything, without noise.
        quiet_epochs: the first of them, without noise.
        picks: tensors drawn for each pass; all where there are fewer.
        noisy: share of ``picks`` that may get noise, rounded down. noise: its deviation.
        lr, last_lr: learning rate, and that of the last fine pass.

    Source: seventh of the NeurIPS 2023 unlearning challenge, in Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276,
    whose code takes the batch norms of shortcuts for other layers.
    """

    about: ClassVar = About("Repeated noise injection", "RNI", "Cadet et al.", 2024, "arXiv:2410.01276", ("retain",))

    lr: Positive = 2e-4
    last_lr: Positive = 1e-3
    epochs: Count = 9
    fine_epochs: CountOrZero = 4
    quiet_epochs: CountOrZero = 1
    picks: CountOrZero = 9
    noisy: Share = 0.7
    noise: NotNegative = 0.04

    def run(self, task: Classification, loop: Loop) -> None:
        """Renew the classifier, then make the passes."""
        loop.hold(self.masks(task, loop))
        last = classifier_of(loop.model, task.probe)
        parameters = dict(loop.model.named_parameters())
        renew_modules(loop.model, [name for name in parameters if name.rpartition(".")[0] == last], loop.seed)
        norms = norm_parameters(loop.model)
        others = [name for name, p in parameters.items() if p.requires_grad and name not in norms]
        picking, shaking = generator(loop.seed, "picks"), generator(loop.seed, "noise")
        drawn: set[str] = set()
        for epoch in range(self.epochs - self.fine_epochs):
            order = torch.randperm(len(others), generator=picking)[: self.picks].tolist()
            picked = [others[k] for k in order]
            if epoch >= self.quiet_epochs:
                shaken = picked[: int(self.noisy * self.picks + 1e-9)]
                add_noise(loop.model, [name for name in shaken if name not in drawn], self.noise, shaking)
            drawn.update(picked)
            with only_trainable(loop.model, {*picked, *norms}):
                self._pass(task, loop, epoch)
        for epoch in range(self.epochs - self.fine_epochs, self.epochs):
            self._pass(task, loop, epoch)

    def _pass(self, task: Classification, loop: Loop, epoch: int) -> None:
        lr = self.last_lr if self.fine_epochs and epoch == self.epochs - 1 else self.lr
        replace(self, saliency=None, lr=lr).train(
            task,
            loop,
            {"retain": task.preserved()},
            epochs=1,
            schedule=stretched(self.schedule, epoch, self.epochs),
        )

    def check(self, task: Classification) -> None:
        """Add the classifier."""
        super().check(task)
        classifier_of(task.model, task.probe)

    def faults(self) -> list[str]:
        """Add more fine passes than passes."""
        found = super().faults()
        if not found and self.fine_epochs > self.epochs:
            found.append(f"`fine_epochs` must be at most `epochs`, {self.epochs}, found {self.fine_epochs}")
        return found
