"""How far apart are two models: in their answers, in what they get right, and in their weights?

The answers are logits, tensors of shape [n, C]; all sums are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError, ModelError, ShapeError


def js_divergence(first: Tensor, second: Tensor) -> np.ndarray:
    """Return the Jensen-Shannon divergence of two models' answers to each example, shape [n], in [0, 1] bits.

    ``JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2`` with ``m = (p + q) / 2`` and logarithms of base 2. 0: the same
    probabilities; 1: no class that both think possible. Symmetric. Lower is better where the second model is the
    retrained one; two retrained models differ as well, so print their divergence beside it.

    Args:
        first: logits, shape [n, C].
        second: of the other model on the same examples, in the same order.

    Raises:
        ShapeError: not [n, C], or not of one shape.
        InvalidInputError: logits that are not finite, or no example.

    Source: Lin, Divergence measures based on the Shannon entropy, 1991. Taken from log-softmax, so that saturated
    logits give no NaN.

    >>> js_divergence(torch.tensor([[0.0, 0.0], [900.0, 0.0]]), torch.tensor([[5.0, 5.0], [0.0, 900.0]]))
    array([0., 1.])
    """
    p, q = log_probabilities(first, second)
    m = torch.logaddexp(p, q) - math.log(2)
    bits = (divergence(p, m) + divergence(q, m)) / (2 * math.log(2))
    return bits.clamp(0.0, 1.0).numpy()


def activation_distance(first: Tensor, second: Tensor, *, norm: Literal[1, 2] = 2) -> np.ndarray:
    """Return the distance of two models' probabilities for each example, shape [n]; 0 is the same.

    With ``norm=2`` the Euclidean distance, in [0, sqrt(2)], as Foster et al. (SSD, AAAI 2024) report it; with
    ``norm=1`` the sum of absolute differences, in [0, 2], as Kurmanji et al. (SCRUB, NeurIPS 2023) do. Name the
    norm beside the number.

    Args:
        first: logits, shape [n, C].
        second: of the other model on the same examples, in the same order.
        norm: see above.

    Raises:
        ShapeError, InvalidInputError: as `js_divergence`, or another norm.
    """
    if norm not in (1, 2):
        raise InvalidInputError(f"`norm` must be 1 or 2, found {norm!r}.")
    p, q = log_probabilities(first, second)
    each: np.ndarray = torch.linalg.vector_norm(p.exp() - q.exp(), ord=norm, dim=1).numpy()
    return each


def agreement(first: Tensor, second: Tensor) -> np.ndarray:
    """Return where two models predict the same class, bool, shape [n]; of equal logits the first class counts.

    Its mean is the completeness of Cao & Yang (2015) where the second model is the retrained one: higher is
    better, and the agreement of two retrained models is the ceiling, well below 1 on a forget set.

    Raises:
        ShapeError, InvalidInputError: as `js_divergence`.

    >>> agreement(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[9.0, 0.0], [3.0, 1.0]]))
    array([ True, False])
    """
    _check_pair(first, second)
    same: np.ndarray = (first.argmax(dim=1).cpu() == second.argmax(dim=1).cpu()).numpy()
    return same


def overlap_of_correct(first: Tensor, second: Tensor, labels: Tensor) -> float:
    """Return the Jaccard index of the examples that two models get right, in [0, 1]; 1: the same ones.

    ``|A & B| / |A | B|``, A and B being the sets that the first and the second model classify correctly.

    Args:
        first: logits, shape [n, C].
        second: of the other model on the same examples, in the same order.
        labels: shape [n].

    Raises:
        ShapeError, InvalidInputError: as `js_divergence`; not one label per example, labels that are no class, or
            neither model is right anywhere, in which case there is nothing to overlap: see `agreement`.
    """
    _check_pair(first, second)
    if labels.shape != first.shape[:1] or labels.is_floating_point():
        raise ShapeError(
            f"`labels` must be {len(first)} integers, one per example, found {list(labels.shape)}, {labels.dtype}."
        )
    truth = labels.cpu()
    if int(truth.min()) < 0 or int(truth.max()) >= first.shape[1]:
        raise InvalidInputError(
            f"`labels` must be classes from 0 to {first.shape[1] - 1}, found {int(truth.min())} to "
            f"{int(truth.max())}."
        )
    right = [x.argmax(dim=1).cpu() == truth for x in (first, second)]
    either = int((right[0] | right[1]).sum())
    if either == 0:
        raise InvalidInputError(
            "Neither model gets an example right: their correct sets are empty. Compare with `agreement` instead."
        )
    return int((right[0] & right[1]).sum()) / either


def normalised_entropy(logits: Tensor) -> np.ndarray:
    """Return the entropy of each answer over that of a guess, ``H(p) / log C``, shape [n], in [0, 1].

    0: certain; 1: all classes alike. It has no better direction: compare with the retrained model.

    Raises:
        ShapeError, InvalidInputError: as `js_divergence`.
    """
    _check_logits("logits", logits)
    log_p = _log_softmax(logits)
    nats = -torch.where(log_p.isfinite(), log_p.exp() * log_p, 0.0).sum(dim=1)
    return (nats / math.log(logits.shape[1])).clamp(0.0, 1.0).numpy()


@dataclass(frozen=True)
class WeightDistance:
    """How far the parameters of two models lie apart; see `weight_distance`.

    Attributes:
        absolute: ``||a - b||``, Euclidean.
        relative: ``||a - b|| / ||a||``.
        normalised: ``|| a / ||a|| - b / ||b|| ||``, in [0, 2]: the difference in direction only.
    """

    absolute: float
    relative: float
    normalised: float


def weight_distance(first: nn.Module, second: nn.Module) -> WeightDistance:
    """Return the Euclidean distance of two models' parameters, frozen ones too; buffers are left out.

    0 between the original and the unlearned model: nothing happened. Against a retrained model it means something
    only where both began with the same weights, and beside the distance of two retrained models: a network whose
    hidden units are permuted computes the same and lies far away. A diagnosis, not a headline.

    Summed in float64 on the CPU, one parameter at a time.

    Args:
        first: a, to whose length ``relative`` refers.
        second: b.

    Raises:
        ModelError: parameters of other names or shapes, none, or some that are not finite.
        InvalidInputError: all parameters of a model are zero, so that nothing can be told relative to it.
    """
    _check_same_parameters(first, second)
    squares = [0.0, 0.0, 0.0]
    for a, b in _parameters(first, second):
        squares = [s + float(x.square().sum()) for s, x in zip(squares, (a, b, a - b), strict=True)]
    if not all(map(math.isfinite, squares)):
        raise ModelError("The models' parameters must be finite to be compared; some are NaN or infinite.")
    if min(squares[:2]) == 0:
        raise InvalidInputError("All parameters of one of the models are zero: no distance relative to it exists.")
    length, other, apart = map(math.sqrt, squares)
    # A second pass: the difference of directions, worked out from the three sums, would lose half of the digits.
    turned = sum(float((a / length - b / other).square().sum()) for a, b in _parameters(first, second))
    return WeightDistance(apart, apart / length, math.sqrt(turned))


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) in nats of log probabilities, shape [n, C], for each example; classes with p = 0 add 0."""
    weight = p.exp()
    return torch.where(weight > 0, weight * (p - q), 0.0).sum(dim=1)


def log_probabilities(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two models' log probabilities of checked logits, shape [n, C], float64, on the CPU."""
    _check_pair(first, second)
    return _log_softmax(first), _log_softmax(second)


def _parameters(first: nn.Module, second: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    others = dict(second.named_parameters())
    for name, parameter in first.named_parameters():
        yield parameter.detach().cpu().double(), others[name].detach().cpu().double()


def _check_same_parameters(first: nn.Module, second: nn.Module) -> None:
    shapes = [{name: list(p.shape) for name, p in model.named_parameters()} for model in (first, second)]
    if not shapes[0]:
        raise ModelError("The first model has no parameters to compare.")
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        found = [of.get(name, "no such parameter") for of in shapes]
        if found[0] != found[1]:
            raise ModelError(
                f"Weights can be compared between models of one architecture only; {name!r}: {found[0]} in the "
                f"first, {found[1]} in the second."
            )


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.detach().cpu().double().log_softmax(dim=1)


def _check_pair(first: Tensor, second: Tensor) -> None:
    _check_logits("first", first)
    _check_logits("second", second)
    if first.shape != second.shape:
        raise ShapeError(
            f"Both models must answer the same examples with the same classes, found logits of shape "
            f"{list(first.shape)} and {list(second.shape)}."
        )


def _check_logits(which: str, logits: Tensor) -> None:
    if logits.dim() != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ShapeError(
            f"The {which} logits must be floats of shape [n, C] with C of at least 2, found {list(logits.shape)}, "
            f"{logits.dtype}."
        )
    if len(logits) == 0:
        raise InvalidInputError(f"The {which} logits hold no example.")
    if not logits.isfinite().all():
        raise InvalidInputError(f"The {which} logits hold NaN or infinite numbers: such answers mean nothing.")
