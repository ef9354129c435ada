"""OMP: prune first, then unlearn what is left."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from amnesty.errors import ModelError
from amnesty.methods.base import About, Method
from amnesty.tasks import Classification, Role, Source, cross_entropy
from amnesty.training import CountOrZero, Loop, Masks, Recipe
from amnesty.training.lottery import train_sparse
from amnesty.weights.layers import kernels, layer_parameters


@dataclass(frozen=True, kw_only=True)
class OMP(Method):
    """Make the network sparse on both sets, then unlearn with another method that leaves pruned weights at zero.

    The network is trained from new weights by the recipe of the original, on what is to be forgotten too. The
    smallest of its kernel weights are pruned, all kernels ranked together; the others return to what they were after
    ``rewind_epochs`` passes, and the rest of the recipe is run once more. The kernels are those of convolutions; of
    all linear layers but the classifier too where the network has fewer than two.

    Args:
        method: unlearns the sparse network, which is its original.
        recipe: how the original was trained.
        sparsity: share of the kernel weights that are pruned, in [0, 1). ``None``: the model is sparse already. It is
            not trained anew, and the zeros in the weights of its linear and convolution layers stay.
        rewind_epochs: passes of the recipe to return to; 0 is the initialisation.

    Source: Jia et al., NeurIPS 2023, arXiv:2304.04934, "prune first, then unlearn", with one-shot magnitude pruning.
    """

    about: ClassVar = About(
        "Prune first, then unlearn", "OMP", "Jia et al.", 2023, "arXiv:2304.04934", ("forget", "retain", "recipe")
    )

    method: Method
    recipe: Recipe = field(default_factory=Recipe)
    sparsity: float | None = 0.95
    rewind_epochs: CountOrZero = 8

    def run(self, task: Classification, loop: Loop) -> None:
        """Prune, then unlearn under the mask of what is left."""
        kept = _not_zero(loop.model) if self.sparsity is None else self._pruned(task, loop, self.sparsity)
        loop.hold(kept)
        sparse = copy.copy(task)
        sparse.model = copy.deepcopy(loop.model)
        self.method.run(sparse, loop)

    def _pruned(self, task: Classification, loop: Loop, sparsity: float) -> Masks:
        role, both = _both(task)
        names = kernels(loop.model, task.probe)
        return train_sparse(loop, role, both, self.recipe, names=names, sparsity=sparsity, rewind=self.rewind_epochs)

    def check(self, task: Classification) -> None:
        """Add what the method of the sparse network needs, and that there is something to prune or to keep."""
        super().check(task)
        self.method.check(task)
        if self.sparsity is not None:
            _both(task)
            if not any(task.model.get_parameter(name).requires_grad for name in kernels(task.model, task.probe)):
                raise ModelError("OMP prunes kernel weights, but those of this model are all frozen.")
        elif all(mask.all() for mask in _not_zero(task.model).values()):
            raise ModelError("OMP(sparsity=None) keeps the zeros of a sparse model, but this model has none.")

    def faults(self) -> list[str]:
        """Add a method that is none, a sparsity out of range, and a rewind past the end."""
        found = super().faults()
        if not isinstance(self.method, Method) or isinstance(self.method, OMP):
            found.append(f"`method` must be an instance of another method, found {self.method!r}")
        if self.sparsity is not None and not (isinstance(self.sparsity, int | float) and 0 <= self.sparsity < 1):
            found.append(f"`sparsity` must be in [0, 1) or None, found {self.sparsity!r}")
        if self.sparsity is not None and not found and self.rewind_epochs >= self.recipe.epochs:
            found.append(
                f"`rewind_epochs` must be below the {self.recipe.epochs} of the recipe, found {self.rewind_epochs}"
            )
        return found


def _both(task: Classification) -> tuple[Role, Source]:
    return task.together(Role("forget", cross_entropy), task.preserved())


def _not_zero(model: nn.Module) -> Masks:
    names = {name for name in layer_parameters(model) if name.endswith("weight")}
    return {name: p.detach() != 0 for name, p in model.named_parameters() if name in names}
