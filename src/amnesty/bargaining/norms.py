"""Batch norm whose second derivative costs about as much as its first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class FusedBatchNorm(TorchFunctionMode):
    """Computes batch norms in training mode by fused kernels, in the second derivative too.

    PyTorch takes that derivative by some forty elementwise operations on the whole batch, a quarter of the time of an
    exact lookahead step on a small residual network. Here it is two calls of the first derivative's own kernel and a
    few passes. Half precision and batch norms without weights go PyTorch's way.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given: tuple[Any, ...] | None
        if func is functional.batch_norm:
            given = _of_functional(*args, **(kwargs or {}))
        else:
            given = tuple(args[:8]) if func is torch.batch_norm and len(args) == 9 else None
        if given is not None and _applies(*given):
            x, weight, bias, mean, variance, _, momentum, eps = given
            return _BatchNorm.apply(x, weight, bias, mean, variance, momentum, eps)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _of_functional(
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Any, ...]:
    """Return the arguments of `torch.nn.functional.batch_norm` in the order of `torch.batch_norm`."""
    return input, weight, bias, running_mean, running_var, training, momentum, eps


def _applies(x: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *_: Any) -> bool:
    plain = x.dtype in (torch.float32, torch.float64) and torch.is_grad_enabled()
    enough = x.dim() > 1 and x.numel() > x.shape[1]  # PyTorch refuses one number in a channel
    return training and enough and plain and all(isinstance(p, Tensor) and p.dtype == x.dtype for p in (weight, bias))


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Any, variance: Any, *rest: float) -> Tensor:
        out, center, scale = torch.native_batch_norm(x, weight, bias, mean, variance, True, *rest)
        ctx.save_for_backward(x, weight, center, scale)
        ctx.eps = rest[1]
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, weight, center, scale = ctx.saved_tensors
        found = _BatchNormBackward.apply(gradient, x, weight, center, scale, ctx.eps)  # type: ignore[no-untyped-call]
        return (*found, None, None, None, None)


class _BatchNormBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, center: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        found = _first(g, x, weight, center, scale, eps)
        ctx.save_for_backward(g, x, weight, center, scale, *found[1:])
        ctx.eps = eps
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, u: Tensor, p: Tensor, q: Tensor) -> tuple[Any, ...]:
        # With z = (x - center) * scale, m numbers in a channel and B(a) = w s (a - mean(a) - z mean(a z)), the first
        # derivative is B(g), sum(g z), sum(g). Of S = <u, B(g)> + p sum(g z) + q sum(g):
        #   dS/dg = B(u) + p z + q,   dS/dw = s A,   A = sum(u g) - sum(u) sum(g) / m - sum(u z) sum(g z) / m,
        #   dS/dx = B(a) / w - w s^2 A z / m,   a = p g - w s / m * (sum(g z) u + sum(u z) g).
        g, x, weight, s, gz, g1 = (ctx.saved_tensors[k] for k in (0, 1, 2, 4, 5, 6))
        center = ctx.saved_tensors[3]
        m = x.numel() // x.shape[1]
        shape = [1, -1] + [1] * (x.dim() - 2)

        def wide(channel: Tensor) -> Tensor:
            return channel.view(shape)

        one = torch.ones_like(weight)
        along_u, uz, u1 = _first(u, x, weight, center, s, ctx.eps)
        others = [k for k in range(x.dim()) if k != 1]
        a_sum = (u * g).sum(others) - (u1 * g1 + uz * gz) / m
        z_weight, shift = p * s, q - p * s * center  # p z + q = (p s) x + (q - p s center)
        to_g = along_u.addcmul_(x, wide(z_weight)).add_(wide(shift))
        pulled = u * wide(-weight * s / m * gz)
        pulled.addcmul_(g, wide(p - weight * s / m * uz))
        to_x, _, _ = _first(pulled, x, one, center, s, ctx.eps)
        bend = -weight * s.square() * a_sum / m
        to_x.addcmul_(x, wide(bend * s)).add_(wide(-bend * s * center))
        return to_g, to_x, s * a_sum, None, None, None


def _first(
    g: Tensor, x: Tensor, weight: Tensor, center: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        g.contiguous(), x, weight, None, None, center, scale, True, eps, [True, True, True]
    )
    return found
