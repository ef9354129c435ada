"""Inner products of the players' gradients: all that a rule of combination needs to know."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amnesty.errors import ShapeError

# A CPU adds a dot product up in a few long float32 sums, which lose 1e-5 of 5 million random squares (1e-2 of
# 50 million equal ones): more than what tells opposed gradients from nearly opposed ones. In blocks of this
# size they lose 1e-8 (1e-5). Other devices add in many short sums, and would feel the launches.
_BLOCK = 2**16

Gradient = Sequence[Tensor | None]
"""One player's gradient: a tensor per parameter, ``None`` where the player does not touch it."""


def gramian(gradients: Sequence[Gradient]) -> Tensor:
    """Return ``K[i, j] = <g_i, g_j>`` of n gradients.

    Each tensor contributes a dot product, accumulated in float32 (float64 for float64 tensors; on a CPU in
    blocks); the sum over tensors is taken in float64, because a model has far more parameters than float32
    has digits. No flattened copy of the model is made, whatever the memory format, and nothing waits for
    the device.

    Args:
        gradients: n sequences of equal length, one per player; entry k of every sequence is the
            gradient of the same parameter, of any float type, shape and memory format, or ``None``.

    Returns:
        The Gram matrix, shape [n, n], float64, symmetric, on the gradients' (first) device.

    Raises:
        ShapeError: no player, sequences of different lengths, no tensor at all, tensors of different
            shapes for one parameter, or sparse or non-float tensors.

    Example:
        >>> gramian([[torch.tensor([3.0, 4.0]), None], [torch.tensor([1.0, 0.0]), torch.ones(2)]])
        tensor([[25.,  3.],
                [ 3.,  3.]], dtype=torch.float64)
    """
    check_gradients(gradients)
    n = len(gradients)
    device = next(g.device for player in gradients for g in player if g is not None)
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    dots: list[list[Tensor]] = [[] for _ in pairs]
    for tensors in zip(*gradients, strict=True):
        for pair, (i, j) in enumerate(pairs):
            a, b = tensors[i], tensors[j]
            if a is not None and b is not None:
                dots[pair].append(_dot(a, b).to(device))
    zero = torch.zeros((), dtype=torch.float64, device=device)
    sums = torch.stack([torch.stack(d).sum() if d else zero for d in dots])
    upper = torch.zeros(n, n, dtype=torch.float64, device=device)
    row, column = torch.triu_indices(n, n, device=device)
    upper = upper.index_put((row, column), sums)
    return upper.index_put((column, row), sums)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    # Both are read in the order in which `a` lies in memory, so that dense tensors of one memory format
    # (channels-last, say) are flattened without a copy.
    order = sorted(range(a.dim()), key=a.stride, reverse=True)
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    flat_a = a.detach().permute(order).reshape(-1).to(wide)
    flat_b = flat_a if b is a else b.detach().permute(order).reshape(-1).to(wide)
    if a.device.type != "cpu" or a.numel() <= _BLOCK:
        return torch.dot(flat_a, flat_b).to(torch.float64)
    blocks = zip(torch.split(flat_a, _BLOCK), torch.split(flat_b, _BLOCK), strict=True)
    return torch.stack([torch.dot(x, y) for x, y in blocks]).sum(dtype=torch.float64)


def check_gradients(gradients: Sequence[Gradient]) -> None:
    """Raise `ShapeError` unless ``gradients`` are n comparable gradients (see `gramian`)."""
    if not gradients:
        raise ShapeError("`gradients` is empty: expected one sequence of tensors per player.")
    lengths = {len(player) for player in gradients}
    if len(lengths) > 1:
        raise ShapeError(
            f"`gradients` has sequences of different lengths {sorted(lengths)}: every player needs one entry "
            "per parameter, `None` for a parameter that it does not touch."
        )
    if all(g is None for player in gradients for g in player):
        raise ShapeError("`gradients` holds no tensor: no player touches any parameter.")
    for k, tensors in enumerate(zip(*gradients, strict=True)):
        present = [g for g in tensors if g is not None]
        shapes = {tuple(g.shape) for g in present}
        if len(shapes) > 1:
            raise ShapeError(f"`gradients` disagree on the shape of parameter {k}: found {sorted(shapes)}.")
        for g in present:
            if g.layout != torch.strided or not g.is_floating_point():
                raise ShapeError(
                    f"The gradient of parameter {k} is a {g.layout} tensor of {g.dtype}; expected a dense "
                    "tensor of a float type. (For embeddings, use `sparse=False`.)"
                )


def check_gramian(gramian: Tensor, players: int | None = None) -> None:
    """Raise `ShapeError` unless ``gramian`` is a float matrix of shape [players, players]."""
    square = gramian.dim() == 2 and gramian.shape[0] == gramian.shape[1] > 0
    if not square or (players is not None and gramian.shape[0] != players):
        wanted = "n, n" if players is None else f"{players}, {players}"
        raise ShapeError(
            f"`gramian` must have shape [{wanted}], one row per player, but has {list(gramian.shape)}. "
            "Pass `jacobian @ jacobian.T`, not the Jacobian itself."
        )
    if not gramian.is_floating_point():
        raise ShapeError(f"`gramian` must be of a float type, but is {gramian.dtype}.")
