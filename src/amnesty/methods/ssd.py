"""Selective synaptic dampening: shrink the weights that matter to the forget set alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from amnesty.data import Batches
from amnesty.errors import InvalidInputError
from amnesty.methods.base import About, Edit
from amnesty.tasks import Classification
from amnesty.training import Count, Loop, Positive
from amnesty.weights import squared_gradients


@dataclass(frozen=True, kw_only=True)
class SSD(Edit):
    """Shrink every weight that matters much more to the forget set than to the rest.

    A weight's importance I is the mean square of the gradients of single examples. Where ``I_f > a I_ref``, the
    weight is multiplied by ``min(b I_ref / I_f, 1)``.

    With ``reference="all"``, as published, the forget set is part of what it is compared with, and ``I_all >= n_f / n
    I_f``: nothing can be selected if ``a >= n / n_f``, and the published a = 10 does nothing to forget a tenth.
    ``reference="retain"``, the default, knows no such limit.

    Args:
        selection: a. A class that is forgotten altogether wants about 10; of a random tenth few weights pass 5, and
            ``changed`` in the history says how many. dampening: b.
        reference: I_ref: of both sets together (``"all"``), or of the retain set (``"retain"``).
        labels: ``"true"``, or ``"none"``: mean absolute gradients of ``|logits|^2``, which read no label.
        per_batch: square the mean gradient of batches of so many examples instead, in the order of the data, as the
            published code does; it depends on their size.
        chunk: examples whose gradients are taken at once; ``1`` is for models that `torch.func.vmap` cannot take.

    Source: Foster et al., SSD, AAAI 2024, arXiv:2308.07707, Eqs. 5 and 6 (b is their lambda); without labels:
    arXiv:2402.19308. Published settings: `paper`.
    """

    about: ClassVar = About(
        "Selective synaptic dampening", "SSD", "Foster et al.", 2024, "arXiv:2308.07707", ("forget", "retain")
    )

    selection: Positive = 5.0
    dampening: Positive = 1.0
    reference: Literal["all", "retain"] = "retain"
    labels: Literal["true", "none"] = "true"
    per_batch: Count | None = None
    chunk: Count = 32

    @classmethod
    def paper(cls) -> SSD:
        """Return the settings published for a ResNet-18; they cannot forget a tenth of the data or more."""
        return cls(selection=10.0, dampening=1.0, reference="all", per_batch=128)

    def edit(self, task: Classification, loop: Loop) -> Mapping[str, Tensor]:
        """Return what dampening takes away."""
        forget, retain = (self._importance(task, loop, part) for part in ("forget", "retain"))
        count, total = self._counts(task)
        share = count / total if self.reference == "all" else 0.0
        parameters = dict(loop.model.named_parameters())
        change = {}
        for name, mine in forget.items():
            rest = share * mine + (1 - share) * retain[name]
            chosen = mine > self.selection * rest
            kept = (self.dampening * rest / torch.where(chosen, mine, 1.0)).clamp(max=1.0)
            change[name] = torch.where(chosen, (kept - 1) * parameters[name].detach(), 0.0)
        return change

    def _importance(self, task: Classification, loop: Loop, part: str) -> dict[str, Tensor]:
        kind: Literal["true", "norm"] = "norm" if self.labels == "none" else "true"
        return squared_gradients(loop.model, task.parts[part], kind, chunk=self.chunk, per_batch=self.per_batch)

    def _counts(self, task: Classification) -> tuple[int, int]:
        """Return how many examples (batches, with ``per_batch``) are in the forget set, and in both."""

        def count(part: str) -> int:
            if self.per_batch is None:
                return len(task.labels(part))
            return len(Batches(task.parts[part], self.per_batch))

        return count("forget"), count("forget") + count("retain")

    def check(self, task: Classification) -> None:
        """Add that something can be selected."""
        super().check(task)
        mine, both = self._counts(task)
        if self.reference == "all" and self.selection * mine >= both:
            most = f"{both / mine:.4g}"
            raise InvalidInputError(
                f"SSD(selection={self.selection:g}, reference='all') can select nothing here: the forget set is one "
                f"part in {most} of what it is compared with, so that no weight can matter {most} times as much to "
                f"it. Choose `selection` below {most}, or `reference='retain'`."
            )
