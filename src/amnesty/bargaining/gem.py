"""The smallest change of a gradient after which it no longer works against any of some memories."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from amnesty.bargaining.gramian import check_gramian
from amnesty.errors import InvalidInputError, PrecisionError, ShapeError

_OPTIMAL = 1e-8


def gem_dual(gramian: Tensor, products: Tensor, margin: float, epsilon: float = 1e-3) -> Tensor:
    """Return the weights v with which memories are added to a gradient: ``g + M'v``, M one memory a row.

    Minimises ``1/2 v'Pv + q'v`` over ``v >= margin`` where ``P = MM' + epsilon I`` and ``q = M g``. At the optimum
    ``<g + M'v, m_k> >= -epsilon v_k``, with equality where ``v_k > margin``.

    The problem is strictly convex. It is solved exactly, in float64, by an active set: one after the other, the
    memory that would gain most is freed from its bound, and those that would fall below it are bound again
    (Lawson & Hanson); a few t x t systems, whatever the memories' lengths and angles.

    Args:
        gramian: ``MM'``, shape [t, t].
        products: ``M g``, shape [t].
        margin: the lower bound of v, at least 0; 0.5 in the published code.
        epsilon: positive; in the unit of ``gramian``, as published.

    Returns:
        v, shape [t], float64, on the device of ``gramian``, which waits for the result. NaN where an input holds
        NaN or infinity.

    Raises:
        ShapeError: ``gramian`` is no square float matrix, or ``products`` has another length.
        InvalidInputError: ``margin`` or ``epsilon`` is out of range.
        PrecisionError: the conditions of the optimum are missed by a relative 1e-8.

    Source: Lopez-Paz & Ranzato, GEM, NeurIPS 2017, arXiv:1706.08840, Eq. 11; Wu & Harandi, Scissorhands,
    ECCV 2024, arXiv:2401.06187. No quadratic-programming package is needed.

    Example:
        >>> gem_dual(torch.eye(2), torch.tensor([-2.0, 1.0]), margin=0.5, epsilon=1e-9)
        tensor([2.0000, 0.5000], dtype=torch.float64)
    """
    check_gramian(gramian)
    if products.shape != gramian.shape[:1]:
        raise ShapeError(
            f"`products` must have shape [{len(gramian)}], one per memory, found {list(products.shape)}."
        )
    if not 0 <= margin < math.inf or not 0 < epsilon < math.inf:
        raise InvalidInputError(
            f"`margin` must be at least 0 and `epsilon` positive, both finite; found {margin} and {epsilon}."
        )
    p = gramian.detach().to("cpu", torch.float64)
    q = products.detach().to("cpu", torch.float64)
    p = (p + p.T) / 2 + epsilon * torch.eye(len(q), dtype=torch.float64)
    if not (p.isfinite().all() and q.isfinite().all()):
        return torch.full_like(gramian[0], torch.nan, dtype=torch.float64)
    # From its bound, v = margin + u with u >= 0.
    v = margin + _above_zero(p, q + margin * p.sum(1))
    if not _is_optimal(p, q, v, margin):
        raise PrecisionError(
            f"The dual of {len(q)} memories is not solved to {_OPTIMAL:.0e}: `gramian` is not positive semidefinite, "
            f"or `epsilon` ({epsilon}) too small beside its diagonal, up to {p.diagonal().max().item():.1e}."
        )
    return v.to(gramian.device)


def _above_zero(p: Tensor, c: Tensor) -> Tensor:
    """Minimise ``1/2 u'Pu + c'u`` over ``u >= 0``, shape [t]."""
    u = torch.zeros_like(c)
    free = torch.zeros_like(c, dtype=torch.bool)
    tolerance = 1e-14 * _scale(p, c, u)
    for _ in range(10 * len(c)):
        gain = torch.where(free, -math.inf, -(p @ u + c) - tolerance)
        if gain.max() <= 0:
            break
        free[gain.argmax()] = True
        u = _descend(p, c, u, free)
        tolerance = 1e-14 * _scale(p, c, u)
    return u


def _descend(p: Tensor, c: Tensor, u: Tensor, free: Tensor) -> Tensor:
    """Go to the optimum of the free entries, binding (in place) those that would fall below zero on the way."""
    while True:
        goal = torch.zeros_like(u)
        goal[free] = torch.linalg.solve_ex(p[free][:, free], -c[free])[0]  # what is singular shows in the end
        below = free & (goal <= 0)
        if not below.any():
            return goal
        ratio = torch.where(below, u / (u - goal).clamp(min=1e-300), math.inf)
        u = u + ratio.min() * (goal - u)
        bound = below & (ratio == ratio.min())
        free &= ~(bound | (u <= 0))
        u = torch.where(free, u, 0.0)


def _scale(p: Tensor, c: Tensor, v: Tensor) -> Tensor:
    """Return the size of the terms that cancel in the gradient ``Pv + c``, shape [t]."""
    return p.abs() @ v.abs() + c.abs()


def _is_optimal(p: Tensor, q: Tensor, v: Tensor, margin: float) -> bool:
    """Say whether the gradient vanishes where v is above its bound, and is nowhere negative."""
    slope = (p @ v + q) / _scale(p, q, v).clamp(min=1e-300)
    return bool((torch.where(v > margin, slope.abs(), -slope) <= _OPTIMAL).all())
