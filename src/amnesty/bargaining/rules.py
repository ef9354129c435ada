"""What every rule of combination has in common, and the simplest one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from amnesty.bargaining.gramian import check_gramian
from amnesty.errors import InvalidInputError, ShapeError

Rule = Callable[[Tensor], Tensor]
"""A rule maps the Gram matrix of n gradients, shape [n, n], to n weights, shape [n].

It is pure: no state, no randomness, no wait for the device. A player whose row and column are zero
abstains and gets weight 0. All weights 0 means that the players reached no agreement.
"""

WhenStationary = Literal["retain", "skip", "noise"]
"""What happens at a point where no direction helps everybody; see `Bargain`."""

WHEN_STATIONARY: tuple[WhenStationary, ...] = ("retain", "skip", "noise")


@dataclass(frozen=True)
class Sum:
    """The plain joint step: a fixed weighted sum of the gradients.

    Args:
        weights: one number per player in the order in which they are named to `Bargain.backward`;
            ``None`` means 1 for each.

    Raises:
        InvalidInputError: a weight is not a finite number, or all are zero.
        ShapeError: (when called) the number of weights is not the number of players.

    Example:
        >>> Sum((0.1, 0.9))(torch.eye(2))
        tensor([0.1000, 0.9000], dtype=torch.float64)
    """

    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            finite = torch.tensor(list(self.weights), dtype=torch.float64).isfinite().all()
            if not finite or not any(self.weights):
                raise InvalidInputError(f"`weights` must be finite and not all zero, found {list(self.weights)}.")

    def __call__(self, gramian: Tensor) -> Tensor:
        """Map ``gramian``, shape [n, n], to the weights, shape [n], float64."""
        check_gramian(gramian)
        return torch.where(gramian.diagonal() != 0, per_player(self.weights, gramian, "weights"), 0.0)


def per_player(numbers: Sequence[float] | None, gramian: Tensor, name: str) -> Tensor:
    """Return one float64 number per player beside ``gramian``; ``None`` means 1 for each.

    Raises:
        ShapeError: the number of ``numbers`` is not the number of players; ``name`` is in the message.
    """
    n = gramian.shape[0]
    if numbers is None:
        return torch.ones(n, dtype=torch.float64, device=gramian.device)
    if len(numbers) != n:
        raise ShapeError(f"`{name}` has {len(numbers)} entries {list(numbers)}, but {n} players bargain.")
    # Filled one by one: a copy from the host would make the host wait for the device.
    return torch.stack([torch.full((), x, dtype=torch.float64, device=gramian.device) for x in numbers])
