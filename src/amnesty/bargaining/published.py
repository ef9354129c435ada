"""The bargaining formula as published, with its epsilons: to reproduce numbers, not to use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from amnesty.bargaining.gramian import check_gramian
from amnesty.errors import InvalidInputError


@dataclass(frozen=True)
class PublishedNash:
    """The two-player formula of the published MUNBa code, faults included. Use `Nash` for work.

    With ``K = [[k_ff, k_fr], [k_fr, k_rr]]``, computed in float32 as published::

        a_r = sqrt((k_rr k_ff - k_fr sqrt(k_rr k_ff)) / (k_rr^2 k_ff - k_rr k_fr^2 + eps))
        a_f = (1 - k_rr a_r^2) / (k_fr a_r + eps)

    then the norm of the update is clipped to ``max_norm``. It is 0/0 for orthogonal gradients, and
    ``eps`` outweighs the denominator once gradients are shorter than about 0.1. A weight that comes out
    negative or not finite is read as a failed bargain: the step becomes ``g_r + fallback * g_f``.

    Args:
        epsilon: the absolute constant; 1e-8 in the published code.
        fallback: weight of the forgetting gradient after a failed bargain; 0.1 for classifiers.
        max_norm: the published loop clips the update to 1; ``None`` leaves it as it is.

    Raises:
        InvalidInputError: a setting is not a finite number, or ``max_norm`` is not positive.

    Source: code of Wu & Harandi, MUNBa, ICCV 2025, arXiv:2411.15537; Eq. 8 of the paper.

    Example:
        >>> gramian = torch.tensor([[4.0, 0.004], [0.004, 4e-4]])
        >>> PublishedNash(max_norm=None)(gramian)  # Nash(length="nash") gives 0.4767 and 47.6731
        tensor([ 0.5551, 47.3013], dtype=torch.float64)
    """

    epsilon: float = 1e-8
    fallback: float = 0.1
    max_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and math.isfinite(self.fallback)):
            raise InvalidInputError(
                f"`epsilon` and `fallback` must be finite, found {self.epsilon} and {self.fallback}."
            )
        if self.max_norm is not None and not 0 < self.max_norm < math.inf:
            raise InvalidInputError(f"`max_norm` must be positive and finite, found {self.max_norm}.")

    def __call__(self, gramian: Tensor) -> Tensor:
        """Map ``gramian``, shape [2, 2], the forgetting player first, to weights, shape [2], float64.

        Raises:
            ShapeError: ``gramian`` is not of shape [2, 2].
        """
        check_gramian(gramian, players=2)
        single = gramian.to(torch.float32)
        ff, fr, rr = single[0, 0], single[0, 1], single[1, 1]
        root = (rr * ff).sqrt()
        retain = ((rr * ff - fr * root) / (rr * rr * ff - rr * fr * fr + self.epsilon)).sqrt()
        forget = (1 - rr * retain * retain) / (fr * retain + self.epsilon)
        weights = torch.stack([forget, retain])
        agreed = (weights > 0).all() & weights.isfinite().all()
        failed = torch.stack([torch.full_like(forget, self.fallback), torch.ones_like(retain)])
        weights = torch.where(agreed, weights, failed).to(torch.float64)
        weights = torch.where(gramian.diagonal() != 0, weights, 0.0)  # as every rule; no update changes by it
        weights = torch.where(single.isfinite().all(), weights, torch.nan)
        return weights if self.max_norm is None else weights * self._clip(weights, gramian)

    def _clip(self, weights: Tensor, gramian: Tensor) -> Tensor:
        assert self.max_norm is not None
        norm = (weights @ gramian.to(torch.float64) @ weights).clamp(min=0.0).sqrt()
        return (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
