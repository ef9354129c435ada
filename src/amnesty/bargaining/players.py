"""What a player brings to a step, and how its loss becomes a gradient."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from amnesty.bargaining.checks import check_checkpoints, check_loss
from amnesty.bargaining.norms import FusedBatchNorm
from amnesty.bargaining.vocabulary import Inspect, Moving, Player
from amnesty.errors import LossError


class Turns:
    """Evaluates the players of one step, at whatever values the parameters have at that moment.

    Args:
        moving: the parameters; their ``.grad`` is ``None`` between two turns.
        scaler: as that of `Bargain`.
        known: players whose graph was looked at in a step before.
    """

    def __init__(self, moving: Moving, scaler: torch.amp.GradScaler | None, known: Collection[str]) -> None:
        self.moving = moving
        self._inputs = [p for p, _ in moving]
        self._scaler = scaler
        self._known = known

    def play(self, name: str, player: Player, inspect: Inspect | None = None) -> tuple[Tensor, list[Tensor | None]]:
        """Return a player's loss, a float64 scalar, and its gradient, one backward pass per closure.

        The gradient's tensors are its own: they may be changed in place.
        """
        total: Tensor | None = None
        for closure in _closures(player):
            loss = self._loss(name, closure, inspect)
            scaled = loss if self._scaler is None else self._scaler.scale(loss)
            # Through .grad, not autograd.grad, so that the hooks of distributed wrappers run.
            torch.autograd.backward(scaled, inputs=self._inputs)
            total = _plus(total, _number(loss))
        assert total is not None
        gradient = [p.grad for p in self._inputs]
        for p in self._inputs:
            p.grad = None
        _check_touched(name, gradient)
        return total, [
            g if g is None or mask is None else g.mul_(mask)
            for g, (_, mask) in zip(gradient, self.moving, strict=True)
        ]

    def play_differentiably(
        self, name: str, player: Player, inspect: Inspect | None = None
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Return a player's loss, and its gradient (not masked) as a function of the parameters.

        The graphs live as long as this gradient, whose tensors may share memory.
        """
        total: Tensor | None = None
        gradient: list[Tensor | None] = [None] * len(self._inputs)
        with double_backward():
            for closure in _closures(player):
                loss = self._loss(name, closure, inspect)
                part = torch.autograd.grad(loss, self._inputs, create_graph=True, allow_unused=True)
                gradient = [h if g is None else _plus(h, g) for h, g in zip(gradient, part, strict=True)]
                total = _plus(total, _number(loss))
        assert total is not None
        _check_touched(name, gradient)
        return total, gradient

    def _loss(self, name: str, closure: Callable[[], Tensor], inspect: Inspect | None) -> Tensor:
        loss = closure()
        check_loss(name, loss)
        if name not in self._known:
            check_checkpoints(name, loss)
        if inspect is not None:
            inspect(loss)
        return loss


@contextmanager
def double_backward() -> Iterator[None]:
    """Compute attention by kernels that can be differentiated twice, and batch norm by some that are fast then."""
    with sdpa_kernel(SDPBackend.MATH), FusedBatchNorm():
        yield


def _closures(player: Player) -> Sequence[Callable[[], Tensor]]:
    return [player] if callable(player) else player


def _number(loss: Tensor) -> Tensor:
    return loss.detach().to(torch.float64).reshape(())


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _check_touched(name: str, gradient: list[Tensor | None]) -> None:
    if all(g is None for g in gradient):
        raise LossError(
            f"The loss of player {name!r} does not depend on any of the bargained parameters. "
            "Compute it with the same model whose parameters were given to `Bargain`."
        )
