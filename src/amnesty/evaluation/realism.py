"""How far drawn images are from real ones: the Frechet and the kernel distance of what a network makes of both."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError, MissingExtraError, ModelError, one_line
from amnesty.evaluation.image_values import coloured, eight_bit, looked_at
from amnesty.seeds import derive, seeded

SUBSET = 1000
"""Images on each side of one estimate of the kernel distance, at most."""

SUBSETS = 100

_EXTRA = "diffusion"


def features_of(extractor: nn.Module, images: Iterable[Tensor]) -> Tensor:
    """Return what a network makes of images, float64, shape [n, d], on the CPU.

    Args:
        extractor: maps images, float32 in [0, 1], shape [B, C, H, W], to features, shape [B, d].
        images: some at a time: uint8, or floats in [0, 1].

    Raises:
        ModelError: it cannot take them, or gives something else.
        DataError: floats outside [0, 1].
        InvalidInputError: no images.
    """
    found = [looked_at(extractor, some, "the network of features") for some in images]
    if not found:
        raise InvalidInputError("There are no images to take features of.")
    return torch.cat(found)


def frechet_distance(drawn: Tensor, real: Tensor) -> float:
    """Return the Frechet distance of two sets of features, shapes [n, d] and [m, d], as if both were Gaussian (FID).

    ``|m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))``, by torchmetrics, in float64; at least 0, lower is better.
    Small samples make it too large, and the more the more features there are: compare equal numbers of images, and
    with the distance of real images from other real ones.

    Source: Heusel et al., arXiv:1706.08500, Eq. 6.

    Raises:
        InvalidInputError: fewer than two images on a side, or features of different lengths.
        MissingExtraError: torchmetrics is not installed.
    """
    _check(drawn, real)
    metric: Any = _torchmetrics("fid").FrechetInceptionDistance(_Given(drawn.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(drawn.double(), real=False)
    return max(0.0, float(metric.compute()))  # rounding may leave less than 0


def kernel_distance(drawn: Tensor, real: Tensor, *, seed: int = 0) -> float:
    """Return the squared maximum mean discrepancy of two sets of features, shapes [n, d] and [m, d] (KID).

    With the kernel ``(x . y / d + 1)^3``, unbiased, by torchmetrics: the mean over `SUBSETS` random subsets of
    `SUBSET` images, or one estimate of all where there are no more. Its expectation does not depend on the number of
    images; it may be negative, and is 0 in the mean where both are alike. Lower is better.

    Source: Binkowski et al., arXiv:1801.01401, Section 4.

    Args:
        drawn: features of drawn images.
        real: features of real ones.
        seed: of the subsets.

    Raises:
        InvalidInputError, MissingExtraError: as `frechet_distance`.
    """
    _check(drawn, real)
    size = min(SUBSET, len(drawn), len(real))
    subsets = 1 if len(drawn) == len(real) == size else SUBSETS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")  # they are here anyway
        metric: Any = _torchmetrics("kid").KernelInceptionDistance(
            _Given(drawn.shape[1]), subsets=subsets, subset_size=size
        )
    metric.update(real.double(), real=True)
    metric.update(drawn.double(), real=False)
    with seeded(derive(seed, "kernel distance"), torch.device("cpu")):
        return float(metric.compute()[0])


def inception() -> nn.Module:
    """Return the Inception network of published distances; its weights are fetched when they are first needed.

    It takes images in [0, 1], grey or coloured, of any size, rounds them to 8 bits and gives 2048 features.

    Raises:
        MissingExtraError: torchmetrics or torch-fidelity is not installed.
        ModelError: the weights cannot be fetched.
    """
    fid = _torchmetrics("fid")
    if importlib.util.find_spec("torch_fidelity") is None:
        raise MissingExtraError("torch-fidelity", _EXTRA, "Inception")
    try:
        return _Inception(fid.NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"]))
    except (OSError, RuntimeError) as error:  # no network, or a file that was cut off
        raise ModelError(
            f"The weights of Inception are not here and cannot be fetched: {one_line(error)}. Pass a network of your "
            "own as `features`: images [B, C, H, W] in [0, 1] -> features [B, d]."
        ) from error


class _Inception(nn.Module):
    """Inception for images in [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        # Of floats the published network would make nonsense: it wants 0 to 255.
        found: Tensor = self.network(coloured(eight_bit(images)).to(images.device))
        return found


class _Given(nn.Module):
    """Stands for a network where its features are there already."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.num_features = length

    def forward(self, features: Tensor) -> Tensor:
        return features


def _check(drawn: Tensor, real: Tensor) -> None:
    shapes = [list(drawn.shape), list(real.shape)]
    if drawn.dim() != 2 or real.dim() != 2 or drawn.shape[1] != real.shape[1] or min(len(drawn), len(real)) < 2:
        raise InvalidInputError(
            f"A distance needs features of shapes [n, d] and [m, d], n and m at least 2, found {shapes[0]} and "
            f"{shapes[1]}."
        )


def _torchmetrics(name: str) -> Any:
    try:
        return importlib.import_module(f"torchmetrics.image.{name}")
    except ImportError as error:
        raise MissingExtraError("torchmetrics", _EXTRA, "The distance of drawn from real images") from error
