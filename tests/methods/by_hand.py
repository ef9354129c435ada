"""The independent slow reference of every method: the loop one would write without this library."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty import Classification, Outcome
from amnesty.data import Batches, pair

FACTORS = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}
SETTINGS = {"lr": 0.03, "epochs": 3, "momentum": 0.6, "weight_decay": 0.05, "schedule": "cosine"}
"""None of them the default of any method, and all of them felt."""

Direction = Callable[[nn.Module, Mapping[str, Any]], list[Tensor]]


def by_hand(
    task: Classification,
    direction: Direction,
    sizes: Mapping[str, int],
    *,
    pairing: str,
    lr: float,
    epochs: int,
    momentum: float,
    weight_decay: float,
    schedule: str,
    max_norm: float = math.inf,
    seed: int = 0,
    model: nn.Module | None = None,
) -> nn.Module:
    """Return a copy of the task's model (or of ``model``) after the steps that ``direction`` gives for each batch."""
    model = copy.deepcopy(task.model if model is None else model).train()
    streams = {name: Batches(task.parts[name], size, seed, name) for name, size in sizes.items()}
    steps = [batches for epoch in range(1, epochs + 1) for batches in pair(streams, pairing, epoch)]
    velocity: list[Tensor] = []
    for k, batches in enumerate(steps):
        update = direction(model, batches)
        length = torch.cat([u.flatten() for u in update]).norm().item()
        shrink = min(1.0, max_norm / (length + 1e-6))
        update = [u * shrink + weight_decay * p for u, p in zip(update, model.parameters(), strict=True)]
        velocity = [momentum * v + u for v, u in zip(velocity, update, strict=True)] if velocity else update
        with torch.no_grad():
            for p, v in zip(model.parameters(), velocity, strict=True):
                p.sub_(lr * FACTORS[schedule](k / len(steps)) * v)
    return model


def slope(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return [g.detach() for g in torch.autograd.grad(loss, list(model.parameters()))]


def unit(gradient: list[Tensor]) -> list[Tensor]:
    """Divide by the length; a player who wants nothing has none, and abstains."""
    length = torch.cat([g.flatten() for g in gradient]).norm()
    return [g / length if length > 0 else g for g in gradient]


def entropy(model: nn.Module, batch: Any, cap: float = math.inf) -> Tensor:
    """Mean cross-entropy, of each example up to ``cap``."""
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none").clamp(max=cap).mean()


def assert_same_weights(found: nn.Module, expected: nn.Module) -> None:
    for (name, p), q in zip(found.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def batches_that_moved_statistics(outcome: Outcome) -> int:
    """Count them on the one batch norm of `tests.tiny.conv_net`, new when the run began."""
    return int(outcome.model[1].num_batches_tracked)
