"""Unified concept editing: what is read of a concept becomes what is read of another, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from amnesty.errors import InvalidInputError
from amnesty.methods.base import About, AnyTask, Edit
from amnesty.tasks.diffusion import Denoiser
from amnesty.tasks.diffusion.reading import readers
from amnesty.training import Loop, NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class UCE(Edit):
    """Make the layers that read prompts take a concept for its anchor, and kept prompts for what they are.

    Of each such layer W becomes the least-squares solution
    ``W (keep I + a sum_i g_i e_i^T + b sum_j p_j p_j^T) (keep I + a sum_i e_i e_i^T + b sum_j p_j p_j^T)^-1``: e are
    its inputs for the concepts, g those for their anchors (no prompt where there is none), p those for kept prompts.

    Args:
        erase: a. preserve: b. keep: pull to the weights as they are; small beside squared lengths of the inputs.
        tokens: ``"all"`` positions of a prompt, which also holds for other wordings, or the ``"last"`` one before its
            end, as published.

    Source: Gandikota et al., Unified Concept Editing, WACV 2024, arXiv:2308.14761, Eq. 7. A bias of a layer is left
    out on both sides.
    """

    about: ClassVar = About(
        "Unified concept editing", "UCE", "Gandikota et al.", 2024, "arXiv:2308.14761", ("generator", "retain")
    )
    classifiers_only: ClassVar = False

    erase: Positive = 1.0
    preserve: NotNegative = 1.0
    keep: Positive = 0.5
    tokens: Literal["all", "last"] = "all"

    def edit(self, task: AnyTask, loop: Loop) -> Mapping[str, Tensor]:
        """Return what is added to the weights of each layer."""
        pairs = [(prompt, concept.anchor) for concept in task.concepts.values() for prompt in concept.asked]
        own, anchors, kept = (self._read(task, loop, asked) for asked in (*zip(*pairs, strict=True), task.kept))
        model, change = loop.model, {}
        assert isinstance(model, Denoiser)
        for name, layer in readers(model).items():
            weight = layer.weight.detach().double().cpu()
            left, right = self.keep * weight, self.keep * torch.eye(weight.shape[1], dtype=torch.float64)
            for share, found, wanted in ((self.erase, own, anchors), (self.preserve, kept, kept)):
                left = left + share * weight @ wanted[name].T @ found[name]
                right = right + share * found[name].T @ found[name]
            edited = torch.linalg.solve(right, left, left=False)
            change[f"{name}.weight"] = (edited - weight).to(layer.weight)
        return change

    def _read(self, task: AnyTask, loop: Loop, prompts: tuple[object, ...]) -> dict[str, Tensor]:
        """Return the inputs of each layer, shape [n, d], float64."""
        inputs, last = task.read(loop.model, prompts)
        if self.tokens == "last":
            return {name: found[torch.arange(len(last)), last].double() for name, found in inputs.items()}
        return {name: found.flatten(0, 1).double() for name, found in inputs.items()}

    def check(self, task: AnyTask) -> None:
        """Add that the layers may be edited."""
        super().check(task)
        still = [name for name, layer in readers(task.model).items() if not layer.weight.requires_grad]
        if still:
            raise InvalidInputError(
                f"UCE edits {still[0]!r} and its like: make the task with train='xattn_kv', or more."
            )
