"""Influence unlearning: the Newton step that leaving out the forget set would cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from amnesty.methods.base import About, Edit
from amnesty.tasks import Classification, Source
from amnesty.training import Count, Loop, Positive
from amnesty.weights import dataset_gradient, inverse_fisher_product, per_sample_gradients


@dataclass(frozen=True, kw_only=True)
class Influence(Edit):
    """Take the one step to where the weights would be if the forget set had counted for nothing.

    ``theta + s (F + l I)^-1 v`` with ``v = 1/n sum_f g - n_f / (n n_r) sum_r g``, the g being gradients of single
    examples and F the mean of ``g g'`` over retained ones: a linear approximation around a minimum. Where
    ``relative_length`` in the history exceeds 0.1, do not trust it.

    Args:
        scale: s; 1 is the theory, papers search from 1 to 20.
        damping: l; the smaller, the longer the step along directions that the retain set does not care about.
        samples: retained examples, drawn at random, that F is of; of up to 256 the step is exact.
        mode: ``"reference"`` repeats the recursion of published code, over the first retained examples, to compare:
            it moves along v plus a multiple of one example's gradient, and ``damping`` is 1 whatever is given.
        batch_size: examples of which v is taken at once.
        chunk: examples whose gradients are taken at once; ``1`` is for models that `torch.func.vmap` cannot take.

    Source: Koh & Liang, ICML 2017, arXiv:1703.04730; Izzo et al., AISTATS 2021, arXiv:2002.10077; with the Fisher
    information for the Hessian: Jia et al., NeurIPS 2023, arXiv:2304.04934. Their code never uses a gradient after
    the first to build the inverse.
    """

    about: ClassVar = About(
        "Influence unlearning", "IU", "Koh & Liang", 2017, "arXiv:1703.04730", ("forget", "retain")
    )

    batch_size: Count = 256
    scale: Positive = 1.0
    damping: Positive = 1.0
    samples: Count = 256
    mode: Literal["exact", "reference"] = "exact"
    chunk: Count = 32

    def edit(self, task: Classification, loop: Loop) -> Mapping[str, Tensor]:
        """Return the step."""
        model, retain = loop.model, task.parts["retain"]
        forgotten, kept = (
            dataset_gradient(model, task.parts[part], batch_size=self.batch_size) for part in ("forget", "retain")
        )
        n_f, n_r = (len(task.labels(part)) for part in ("forget", "retain"))
        vector = {name: (g - n_f / n_r * kept[name]) / (n_f + n_r) for name, g in forgotten.items()}
        if self.mode == "reference":
            step = _published(model, retain, vector, min(self.samples, n_r), self.chunk)
        else:
            step = inverse_fisher_product(
                model, retain, vector, self.damping, samples=self.samples, chunk=self.chunk, seed=loop.seed
            )
        return {name: self.scale * part for name, part in step.items()}


def _published(
    model: nn.Module, source: Source, vector: Mapping[str, Tensor], count: int, chunk: int
) -> dict[str, Tensor]:
    """Return v after the published recursion over ``count`` examples: v plus a multiple of the first gradient."""

    def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()

    chunks = per_sample_gradients(model, source, chunk=chunk)
    gradients = (
        {name: g[i] for name, g in block.items()} for block in chunks for i in range(len(next(iter(block.values()))))
    )
    first = next(gradients)
    found = dict(vector)
    for gradient in islice(gradients, count - 1):
        overlap = dot(first, gradient)
        along = dot(found, gradient) / (count + overlap)
        found = {name: v - along * first[name] for name, v in found.items()}
        first = {name: g - overlap / (count + overlap) * g for name, g in first.items()}
    return found
