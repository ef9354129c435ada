"""A run in rounds: as many as it takes until the forget set looks unseen."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from amnesty.tasks import Unseen
from amnesty.training.batchnorm import BatchNormPolicy, batch_norms
from amnesty.training.loop import Loop

LEAST = 1 / 3


def run_rounds(loop: Loop, unseen: Unseen, most: int, make: Callable[[float], object]) -> None:
    """Make rounds until the forget set cannot be told from unseen data by being surer.

    The length of each follows how far there is to go: the `amnesty.tasks.Distance`, but a third at least, since what
    unseen data looks like is still being repaired when the forget set has come near. The history gets a line for
    each, with ``round``, ``reach`` (that share), ``distance`` and ``likeness`` (both measured after it).

    Args:
        loop: whose model is unlearned.
        unseen: what it should look like.
        most: rounds.
        make: makes a round on ``loop.model``, of the length given, in [1/3, 1].
    """
    away = unseen.distance(loop.model)
    for number in range(1, most + 1):
        share = max(away.distance, LEAST)
        make(share)
        away = unseen.distance(loop.model)
        loop.note(round=number, reach=share, distance=away.distance, likeness=away.likeness)
        if away.like:
            return


def sees_batches_alone(model: nn.Module, policy: BatchNormPolicy) -> bool:
    """Say whether some batch norm normalises each batch by itself while it is trained."""
    return policy != "eval" and bool(batch_norms(model))
