"""MSG: renew the weights to which both sets mean the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.data import Subset

from amnesty.data import dataset_of
from amnesty.methods.base import About, Iterative
from amnesty.seeds import generator
from amnesty.tasks import Classification
from amnesty.training import Count, Loop, NotNegative, Positive, Schedule, Share
from amnesty.training.scaling import scale_gradients
from amnesty.training.schedules import by_epoch, up_and_down
from amnesty.weights import dataset_gradient, renew, smallest_share
from amnesty.weights.layers import kernels


@dataclass(frozen=True, kw_only=True)
class MSG(Iterative):
    """Renew the kernel weights with the smallest difference of gradients, then fine-tune on the retain set.

    The difference is ``|grad CE(some of the retain set) - grad CE(forget set)|``, means over examples, of the retain
    set as many as there are to forget. In each kernel the share with the smallest is drawn anew (Kaiming-normal,
    fan-out); the others learn more slowly from there on.

    The kernels are those of convolutions; of all linear layers but the classifier too where the network has fewer
    than two, as a vision transformer or a perceptron has.

    Args:
        renewed: share of each kernel that is drawn anew.
        kept_gradient: factor on the gradient of the kernel weights that are kept. Weight decay has none.
        schedule: ``None`` raises the learning rate over the first half of the passes and lowers it over the second.

    Source: second of the NeurIPS 2023 unlearning challenge, in Cadet et al., Deep Unlearn, 2024, arXiv:2410.01276.
    Their code weights the two sets by their batch sizes, and takes the gradients in training mode.
    """

    about: ClassVar = About(
        "Masked small gradients", "MSG", "Cadet et al.", 2024, "arXiv:2410.01276", ("forget", "retain")
    )

    lr: Positive = 1e-3
    epochs: Count = 5
    schedule: Schedule | None = None  # type: ignore[assignment]
    renewed: Share = 0.3
    kept_gradient: NotNegative = 0.1

    def run(self, task: Classification, loop: Loop) -> None:
        """Renew, then fine-tune."""
        loop.hold(self.masks(task, loop))
        chosen = self._chosen(task, loop)
        random = generator(loop.seed, "renew")
        for name, mask in chosen.items():
            renew(loop.model, name, mask, how="normal_fan_out", generator=random)
        factors = {name: torch.where(mask, 1.0, self.kept_gradient) for name, mask in chosen.items()}
        replace(self, saliency=None).train(
            task,
            loop,
            {"retain": task.preserved()},
            schedule=self.schedule or by_epoch(up_and_down(self.epochs)),
            hooks=[scale_gradients(loop.model, factors)],
        )

    def _chosen(self, task: Classification, loop: Loop) -> dict[str, Tensor]:
        n_f, n_r = (len(task.labels(part)) for part in ("forget", "retain"))
        order = torch.randperm(n_r, generator=generator(loop.seed, "like the forget set"))[:n_f].tolist()
        some = Subset(dataset_of(task.parts["retain"], "retain"), order)
        forget, retain = (
            dataset_gradient(loop.model, part, batch_size=self.batch_size) for part in (task.parts["forget"], some)
        )
        return {
            name: smallest_share((retain[name] / len(some) - forget[name] / n_f).abs(), self.renewed)
            for name in kernels(loop.model, task.probe)
            if name in forget
        }

    def check(self, task: Classification) -> None:
        """Add that there are kernels to renew, and a retain set to take some of."""
        super().check(task)
        kernels(task.model, task.probe)
        dataset_of(task.parts["retain"], "retain")
