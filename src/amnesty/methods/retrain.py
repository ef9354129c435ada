"""Retraining without the forget set: exact, slow, and what everything else is measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from amnesty.errors import ModelError
from amnesty.methods.base import About, Method
from amnesty.seeds import derive, seeded
from amnesty.tasks import Classification, device_of
from amnesty.training import Loop, Recipe
from amnesty.weights import reinitialised


@dataclass(frozen=True, kw_only=True)
class Retrain(Method):
    """Train a new model of the same architecture on the retain set, by the recipe of the original.

    Args:
        recipe: how the original was trained. No library can know it: give the true one, or the reference
            is not a reference.
        fresh: makes a new model; by default a copy of the task's model in which every module has called its
            own ``reset_parameters``. The seed fixes the weights either way.
    """

    about: ClassVar = About("Retraining", "Retrain", "", None, "the exact solution", ("retain", "recipe"))

    recipe: Recipe = field(default_factory=Recipe)
    fresh: Callable[[], nn.Module] | None = None

    def run(self, task: Classification, loop: Loop) -> None:
        """Replace the loop's model by a new one and train it.

        Raises:
            ModelError: a module cannot be initialised afresh, or ``fresh`` makes another architecture.
        """
        loop.replace(self._new(loop).to(device_of(loop.model)))
        self.recipe.run(loop, task.preserved())

    def _new(self, loop: Loop) -> nn.Module:
        if self.fresh is None:
            return reinitialised(loop.model, loop.seed)
        with seeded(derive(loop.seed, "initialisation"), torch.device("cpu")):
            model = self.fresh()
        shapes = [{n: tuple(p.shape) for n, p in m.named_parameters()} for m in (loop.model, model)]
        if shapes[0] != shapes[1]:
            raise ModelError("`fresh` makes a model whose parameters differ from those of the task's model.")
        return model
