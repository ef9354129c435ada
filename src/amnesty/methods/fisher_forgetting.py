"""Fisher forgetting: noise where the retain set does not care."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from amnesty.methods.base import About, Edit
from amnesty.seeds import generator
from amnesty.tasks import Classification
from amnesty.training import Count, Loop, NotNegative, Positive
from amnesty.weights import classifier_of, norm_parameters, squared_gradients


@dataclass(frozen=True, kw_only=True)
class FisherForgetting(Edit):
    """Add noise to the weights, the more of it the less a weight matters to the retain set.

    ``theta + sqrt(v) xi`` with xi normal and ``v = alpha min((F + 1e-8)^(-2 exponent), 1000)``, F being the diagonal
    of the Fisher information of the retain set; v is then averaged over the second dimension of each tensor. The
    classifier (where 1000 is 100 instead) and all vectors, such as biases and norms, get ten times the v. If a class
    is forgotten altogether, its row of the classifier starts again, from 0 with v = 1e-3.

    Args:
        alpha: strength; from 1e-9 to 1e-5.
        labels: F from all labels as the model expects them, in C backward passes, or from one drawn for each example.
        exponent: of the standard deviation: 1/2 as in all code, 1/4 as the paper derives it.
        norms: whether norm layers get noise too; strong noise on their scales destroys the model.
        chunk: examples whose gradients are taken at once; ``1`` is for models that `torch.func.vmap` cannot take.

    Source: Golatkar et al., CVPR 2020, arXiv:1911.04933, Section 5, as in their code and that of SSD and SCRUB. Later
    code squares the mean gradient of batches, which is no Fisher information and depends on their size, and resets
    a row of the classifier where no class is forgotten.
    """

    about: ClassVar = About("Fisher forgetting", "FF", "Golatkar et al.", 2020, "arXiv:1911.04933", ("retain",))

    alpha: NotNegative = 1e-6
    labels: Literal["expected", "sampled"] = "expected"
    exponent: Positive = 0.5
    norms: bool = True
    chunk: Count = 32

    def edit(self, task: Classification, loop: Loop) -> Mapping[str, Tensor]:
        """Return the noise, and what takes the rows of forgotten classes to 0."""
        model = loop.model
        fisher = squared_gradients(model, task.parts["retain"], self.labels, chunk=self.chunk, seed=loop.seed)
        last = {id(p) for p in model.get_submodule(classifier_of(model, task.probe)).parameters()}
        spared = set() if self.norms else norm_parameters(model)
        gone = list(task.forgotten_classes)
        change = {}
        for name, p in model.named_parameters():
            if name not in fisher or name in spared:
                continue
            variance = self.alpha * (fisher[name] + 1e-8).pow(-2 * self.exponent).clamp(
                max=1e2 if id(p) in last else 1e3
            )
            if p.dim() > 1:
                variance = variance.mean(dim=1, keepdim=True).expand_as(p).clone()
            change[name] = torch.zeros_like(p)
            if id(p) in last and len(p) == task.classes:
                variance[gone] = 1e-4
                change[name][gone] = -p.detach()[gone]
            if id(p) in last or p.dim() == 1:
                variance *= 10
            noise = torch.randn(p.shape, generator=generator(loop.seed, "Fisher noise", name))
            change[name] += variance.sqrt() * noise.to(p)
        return change
