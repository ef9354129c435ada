"""A run in rounds: as many as it takes until the forget set looks unseen."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from amnesty.tasks import Unseen
from amnesty.training.batchnorm import BatchNormPolicy, batch_norms
from amnesty.training.loop import Loop

LEAST = 1 / 3
LOST = 0.01
"""Accuracy on what is kept that may be lost when a run ends; more of it is repaired first."""


def run_rounds(loop: Loop, unseen: Unseen, most: int, make: Callable[[float, bool], object]) -> None:
    """Make rounds until the forget set cannot be told from unseen data by being surer, and what is kept is kept.

    The length of each follows how far there is to go: the `amnesty.tasks.Distance`, but a third at least, since what
    unseen data looks like is still being repaired when the forget set has come near. Where the forget set looks
    unseen, and more than a point of accuracy on what is kept was lost, the next round repairs: the retaining player
    makes it alone. The history gets a line for each, with ``round``, ``repair``, ``reach`` (that share), and as
    measured after it ``distance``, ``likeness`` and ``retained``, the accuracy on what is kept.

    Args:
        loop: whose model is unlearned.
        unseen: what it should look like.
        most: rounds.
        make: makes a round on ``loop.model``, of the length given, in [1/3, 1]; for the retaining player alone where
            the second argument is True.
    """
    away, before = unseen.distance(loop.model), unseen.retained(loop.model)
    for number in range(1, most + 1):
        share = max(away.distance, LEAST)
        repair = number > 1 and away.like
        make(share, repair)
        away, kept = unseen.distance(loop.model), unseen.retained(loop.model)
        measured = {"distance": away.distance, "likeness": away.likeness, "retained": kept}
        loop.note(round=number, repair=int(repair), reach=share, **measured)
        if away.like and kept >= before - LOST:
            return


def sees_batches_alone(model: nn.Module, policy: BatchNormPolicy) -> bool:
    """Say whether some batch norm normalises each batch by itself while it is trained."""
    return policy != "eval" and bool(batch_norms(model))
