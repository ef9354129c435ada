"""Sharpness-aware minimisation, around any optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from amnesty.errors import InvalidInputError


class SAM(Optimizer):
    """Steps with the gradient found uphill: at ``theta + rho g / |g|``, g being the gradient at theta.

    ``step`` needs a closure that leaves the gradient of the weights as they are in ``p.grad``; the gradient at theta
    is in ``p.grad`` when it is called. The weights are restored to the bit before the base optimiser steps, also when
    the closure raises.

    Args:
        base: does the step; its parameter groups and state are shared.
        radius: rho, in the unit of the weights.

    Raises:
        InvalidInputError: the radius is not positive, or ``step`` has no closure.

    Source: Foret et al., ICLR 2021, arXiv:2010.01412, Algorithm 1.
    """

    def __init__(self, base: Optimizer, radius: float = 0.05) -> None:
        if not radius > 0:
            raise InvalidInputError(f"`radius` must be positive, found {radius}.")
        super().__init__(base.param_groups, {})
        self.base, self.radius = base, radius
        self.defaults, self.param_groups, self.state = base.defaults, base.param_groups, base.state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Look uphill, come back, step; return what the closure returned."""
        if closure is None:
            raise InvalidInputError("`SAM.step` needs a closure that computes the gradients anew.")
        moving = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        kept = [p.detach().clone() for p in moving]
        with torch.no_grad():
            norms = [p.grad.float().norm().double() for p in moving]
            scale = self.radius / (torch.stack([n.to(norms[0].device) for n in norms]).norm() + 1e-12)
            for p in moving:
                p.add_(p.grad * scale.to(p.grad))
        try:
            found = closure()
        finally:
            with torch.no_grad():
                for p, before in zip(moving, kept, strict=True):
                    p.copy_(before)
        self.base.step()
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base optimiser."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of the base optimiser."""
        self.base.load_state_dict(state_dict)
        self.param_groups, self.state = self.base.param_groups, self.base.state
