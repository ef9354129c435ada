"""An inner player at its turn: its gradient, and products with its Hessian."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from amnesty.bargaining.checks import check_differentiable, no_second_derivative
from amnesty.bargaining.elsewhere import Moment, length, shifted
from amnesty.bargaining.gramian import Gradient
from amnesty.bargaining.lookahead import CurvatureKind
from amnesty.bargaining.players import Turns, double_backward
from amnesty.bargaining.vocabulary import Inspect, Player


class Inner:
    """Evaluates a player once, so that others can look past its step.

    Args:
        name: of the player.
        player: see `Player`.
        turns: the parameters, where they are now.
        buffers: what another evaluation must find as this one did, and leave as it was.
        kinds: the products that will be asked for.
        first: look into the graphs, with ``inspect`` into that of the loss.
        inspect: see `Turns.play`.

    Attributes:
        loss: of the player, a float64 scalar.
        gradient: of the player, masked. To be read only.
    """

    def __init__(
        self,
        name: str,
        player: Player,
        turns: Turns,
        buffers: Sequence[Tensor],
        kinds: Collection[CurvatureKind],
        first: bool,
        inspect: Inspect,
    ) -> None:
        self._name, self._player, self._turns = name, player, turns
        look = inspect if first else None
        self._live: list[Tensor | None] = []
        if "finite-difference" in kinds:
            self._moment = Moment((p.device for p, _ in turns.moving), buffers)
        if "exact" in kinds:
            self.loss, self._live = turns.play_differentiably(name, player, look)
            if first:
                check_differentiable(name, self._live)
            self.gradient = self._masked([g if g is None else g.detach() for g in self._live])
        else:
            self.loss, self.gradient = turns.play(name, player, look)
        self._shared = "exact" in kinds

    def hessian(self, v: Gradient, last: bool) -> list[Tensor | None]:
        """Return ``P H v``, to be read only, by differentiating the gradient. The ``last`` time frees the graphs."""
        parameters = [p for p, _ in self._turns.moving]
        pairs = [
            (g, x) for g, x in zip(self._live, v, strict=True) if g is not None and x is not None and g.requires_grad
        ]
        if last:
            self._live = []
        if not pairs:  # a loss that is linear in what the other player touches
            return [None] * len(parameters)
        try:
            with double_backward():
                outputs, grad_outputs = zip(*pairs, strict=True)
                product = torch.autograd.grad(
                    outputs, parameters, grad_outputs, retain_graph=not last, allow_unused=True
                )
        except RuntimeError as error:
            if not any(words in str(error) for words in ("derivative", "double backward")):
                raise
            raise no_second_derivative(self._name, f"{error}.") from error
        return self._masked(product)

    def displacement(self, relative: float | None, v: Gradient) -> Tensor:
        """Return ``e`` such that ``e v`` is ``relative`` times as long as the weights, a float64 scalar."""
        if relative is None:
            relative = max(torch.finfo(p.dtype).eps for p, _ in self._turns.moving) ** 0.5 / 3
        weights = length(self._masked([p.detach() for p, _ in self._turns.moving]))
        direction = length(v).to(weights)
        weights, direction = (torch.where(x == 0, 1.0, x) for x in (weights, direction))
        return relative * weights / direction

    def slope(self, v: Gradient, e: Tensor) -> list[Tensor | None]:
        """Return ``P (grad(theta + e v) - grad(theta)) / e``, from one more evaluation of the player."""
        with self._moment.again(), shifted(self._turns.moving, v, e):
            _, there = self._turns.play(self._name, self._player)
        slope: list[Tensor | None] = []
        for moved, here in zip(there, self.gradient, strict=True):
            change = moved if here is None else -here if moved is None else moved.sub_(here)
            slope.append(change if change is None else change.div_(e.to(change)))
        return slope

    def own(self) -> list[Tensor | None]:
        """Hand over the gradient, in tensors that may be changed in place, when nobody looks past it any more."""
        if self._shared:  # autograd may have given one tensor for two parameters, or one number for many
            for k, g in enumerate(self.gradient):
                self.gradient[k] = g if g is None else g.clone()
        return self.gradient

    def _masked(self, gradient: Sequence[Tensor | None]) -> list[Tensor | None]:
        return [
            g if g is None or mask is None else g * mask
            for g, (_, mask) in zip(gradient, self._turns.moving, strict=True)
        ]
