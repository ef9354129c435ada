"""Types that this room shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Player = Callable[[], Tensor] | Sequence[Callable[[], Tensor]]
"""What a player brings to a step: a closure that computes its loss, or several (micro-batches), whose
gradients are added before the bargain, so that the graphs never live together."""

Moving = Sequence[tuple[Tensor, Tensor | None]]
"""The parameters of a step, each with its mask."""

Inspect = Callable[[Tensor], None]
"""Looks at the graph of a loss and may object."""
