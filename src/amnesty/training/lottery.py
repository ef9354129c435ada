"""Sparse networks: train, prune, go back, and train what is left."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from amnesty.tasks import Role, Source
from amnesty.training.fit import Recipe
from amnesty.training.hooks import Hook
from amnesty.training.loop import Loop
from amnesty.training.masks import Masks
from amnesty.training.schedules import factor
from amnesty.weights import prune_magnitude, renew_modules


def train_sparse(
    loop: Loop, role: Role, data: Source, recipe: Recipe, *, names: Iterable[str], sparsity: float, rewind: int
) -> Masks:
    """Train ``loop.model`` from new weights, then again from an early moment without its smallest weights.

    Args:
        loop: its model is changed in place; what is frozen, and what its masks hold, stays and is not pruned.
        role: what is learned.
        data: the part of the data that the role names.
        recipe: of the training. After pruning, what comes after the first ``rewind`` passes is run again, at the
            learning rates of those passes, by an optimiser without momentum yet.
        names: of the parameters that are pruned, all ranked together by size after the whole recipe.
        sparsity: share of them that is pruned.
        rewind: passes after which the other weights, and the buffers, are taken; 0 is before training.

    Returns:
        For each parameter pruned, a bool mask that is False where it is now zero. Hold it: `Loop.hold`.

    Source: Frankle et al., Linear Mode Connectivity and the Lottery Ticket Hypothesis, ICML 2020, arXiv:1912.05671.
    """
    model = loop.model
    renew_modules(model, dict(model.named_parameters()), loop.seed)
    loop.settle()
    early: dict[str, Tensor] = {}

    def keep(epoch: int) -> None:
        if epoch == rewind:
            early.update({name: value.clone() for name, value in model.state_dict().items()})

    keep(0)
    recipe.run(
        loop, role, parts={role.part: data}, hooks=[Hook(end_epoch=keep, state=lambda: early, restore=early.update)]
    )
    kept = prune_magnitude(model, sparsity, [name for name in names if model.get_parameter(name).requires_grad])
    kept = {name: mask | ~loop.masks[name] if name in loop.masks else mask for name, mask in kept.items()}
    model.load_state_dict(early)
    with torch.no_grad():
        for name, mask in kept.items():
            model.get_parameter(name).mul_(mask)
    late = recipe.epochs - rewind
    recipe.run(
        loop,
        role,
        parts={role.part: data},
        epochs=late,
        schedule=lambda k, n: factor(recipe.schedule, k + rewind * n // late, n + rewind * n // late),
        masks=kept,
    )
    return kept
