"""Which weights are chosen: the largest or the smallest of a score, to the exact number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.tasks import Loss, Source, cross_entropy
from amnesty.weights.measuring import trainable
from amnesty.weights.scores import dataset_gradient


def top_share(scores: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Choose the ``floor(share * d)`` largest of d scores, over all tensors together; the first of equal ones.

    Args:
        scores: name -> scores of any shape.
        share: in [0, 1].

    Returns:
        Name -> bool mask of the same shape, on the same device, True where chosen.

    Raises:
        InvalidInputError: ``share`` is outside [0, 1], there is no score, or one is NaN.

    Source: the mask of Fan et al., SalUn, ICLR 2024, arXiv:2310.12508, Eq. 4, as an exact number.

    Example:
        >>> top_share({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([[1.0], [0.0]])}, 0.5)
        {'a': tensor([True, True]), 'b': tensor([[False],
                [False]])}
    """
    return _largest(scores, _count(share, sum(score.numel() for score in scores.values())))


def smallest_share(score: Tensor, share: float) -> Tensor:
    """Choose the ``floor(share * d)`` smallest of the d entries of one tensor; the first of equal ones.

    Raises as `top_share`.

    >>> smallest_share(torch.tensor([2.0, 0.0, 1.0, 1.0]), 0.5)
    tensor([False,  True,  True, False])
    """
    return _largest({"score": -score}, _count(share, score.numel()))["score"]


def saliency(
    model: nn.Module,
    source: Source,
    share: float | None,
    loss: Loss = cross_entropy,
    *,
    batch_size: int = 256,
    seed: int | None = None,
) -> dict[str, Tensor]:
    """Choose the ``share`` of the trainable weights in which the loss of a part of the data is steepest.

    ``None`` chooses nothing, so that all may move.

    The `top_share` of ``|sum of the gradients|``, one threshold for all parameters; see `dataset_gradient`
    for the arguments and the errors.

    Source: Fan et al., SalUn, ICLR 2024, arXiv:2310.12508, Section 4.
    """
    if share is None:
        return {}
    found = dataset_gradient(model, source, loss, batch_size=batch_size, seed=seed)
    return top_share({name: g.abs() for name, g in found.items()}, share)


def prune_magnitude(model: nn.Module, share: float, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Choose the weights that survive when ``floor(share * d)`` of them, the smallest, are pruned.

    One threshold on ``|theta|`` for all tensors together; no weight changes.

    Args:
        model: of which only trainable parameters count.
        share: of the weights that are pruned, in [0, 1].
        names: of the parameters that are pruned; by default all that are trainable.

    Returns:
        Name -> bool mask, True where a weight survives.

    Raises:
        InvalidInputError: ``share`` is outside [0, 1], or a weight is NaN.
        UnknownNameError: there is no parameter of a name given.
        ModelError: none of them is trainable.

    >>> model = torch.nn.Linear(3, 1)
    >>> _ = model.weight.data.copy_(torch.tensor([[-3.0, 1.0, 2.0]]))
    >>> prune_magnitude(model, 0.4, ["weight"])
    {'weight': tensor([[ True, False,  True]])}
    """
    scores = {name: p.detach().abs() for name, p in trainable(model, names).items()}
    total = sum(score.numel() for score in scores.values())
    return _largest(scores, total - _count(share, total))


def _count(share: float, total: int) -> int:
    if not 0 <= share <= 1:
        raise InvalidInputError(f"`share` must be in [0, 1], found {share}.")
    return min(int(share * total * (1 + 1e-15)), total)  # 0.29 of 100 is 29, although 0.29 * 100 is below


def _largest(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    if not scores:
        raise InvalidInputError("There is no score to choose from.")
    for name, score in scores.items():
        if not score.is_floating_point():
            raise ShapeError(f"The scores of {name!r} must be of a float type, found {score.dtype}.")
    home = next(iter(scores.values())).device
    flat = torch.cat([score.detach().to(home).reshape(-1) for score in scores.values()])
    if flat.isnan().any():
        raise InvalidInputError("A score is NaN: there is no largest.")
    chosen = torch.split(_largest_of(flat, count), [score.numel() for score in scores.values()])
    pairs = zip(scores.items(), chosen, strict=True)
    return {name: mask.view(score.shape).to(score.device) for (name, score), mask in pairs}


def _largest_of(flat: Tensor, count: int) -> Tensor:
    if count == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    threshold = flat.kthvalue(len(flat) - count + 1).values
    chosen = flat > threshold
    ties = (flat == threshold).nonzero()[:, 0]
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen
