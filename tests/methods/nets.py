"""Models with more than one stage."""

from __future__ import annotations

from torch import nn

from tests import tiny
from tests.tiny import _seeded


def two_convs() -> nn.Sequential:
    return _seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, tiny.CLASSES),
        )
    )


def deep_mlp() -> nn.Sequential:
    return _seeded(
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(36, 16),
            nn.Tanh(),
            nn.Linear(16, 8),
            nn.Tanh(),
            nn.Linear(8, tiny.CLASSES),
        )
    )
