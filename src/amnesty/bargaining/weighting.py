"""Any weighting of the TorchJD library as a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from amnesty.bargaining.gramian import check_gramian
from amnesty.bargaining.rules import WHEN_STATIONARY, WhenStationary
from amnesty.errors import InvalidInputError


@dataclass(frozen=True)
class Weighting:
    """A rule made of any Gramian-based ``torchjd`` weighting: UPGrad, MGDA, CAGrad, PCGrad, IMTL-G, ...

    The Gram matrix is divided by its mean diagonal first. TorchJD compares traces and eigenvalues with
    absolute constants (1e-4 in `UPGradWeighting`), below which it silently returns the mean; divided, the
    unit of the losses cannot matter, while the ratio of the players' lengths, which these weightings use,
    is kept. A NaN in the Gram matrix gives NaN weights without calling the weighting.

    Args:
        weighting: a callable from a Gram matrix, shape [n, n], to weights, shape [n], for example
            ``torchjd.aggregation.MGDAWeighting()``. It may keep state or wait for the device: ask it.
        when_stationary: see `Bargain`; it applies where the weighting returns zeros.

    Raises:
        InvalidInputError: ``weighting`` is not callable, or a class.

    Example:
        >>> from torchjd.aggregation import MGDAWeighting
        >>> Weighting(MGDAWeighting())(torch.tensor([[1e-12, 0.0], [0.0, 1e-12]]))
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    weighting: Callable[[Tensor], Tensor]
    when_stationary: WhenStationary = "retain"

    def __post_init__(self) -> None:
        if not callable(self.weighting) or isinstance(self.weighting, type):
            raise InvalidInputError(
                f"`weighting` must map a Gram matrix to weights, found {self.weighting!r}. "
                "Pass an instance, such as `torchjd.aggregation.UPGradWeighting()`."
            )
        if self.when_stationary not in WHEN_STATIONARY:
            raise InvalidInputError(
                f"`when_stationary` must be one of {', '.join(WHEN_STATIONARY)}, found {self.when_stationary!r}."
            )

    def __call__(self, gramian: Tensor) -> Tensor:
        """Map ``gramian``, shape [n, n], to the weights, shape [n], float64.

        Players with a zero gradient abstain: the weighting sees the others only.

        Raises:
            ShapeError: ``gramian`` is not a square float matrix.
        """
        check_gramian(gramian)
        gramian = gramian.to(torch.float64)
        weights = torch.zeros_like(gramian.diagonal())
        if not gramian.isfinite().all():
            return weights + torch.nan
        active = gramian.diagonal().nonzero()[:, 0]
        if len(active):
            sub = gramian[active[:, None], active[None, :]]
            weights[active] = self.weighting(sub / sub.diagonal().mean()).to(weights)
        return weights
