"""What the players agreed on in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from amnesty.bargaining.nash import cosines
from amnesty.errors import NonFiniteError


@dataclass(frozen=True)
class Curvature:
    """The Hessian term ``s H v`` in the gradient ``d`` of a lookahead player; see `Lookahead`.

    Attributes:
        share: ``|s H v| / |d|``, scalar; near or above 1, the step ``s`` is too long for the curvature.
        error: estimated relative error of ``H v`` by finite differences, scalar; ``None`` where none was taken.
    """

    share: Tensor
    error: Tensor | None = None


@dataclass(frozen=True)
class Agreement:
    """What the players agreed on in one step. All tensors stay on the device until they are read.

    Attributes:
        players: names, in the order of every axis below; without those that were absent in this step.
        losses: each player's loss, shape [n], float64; that of a lookahead player at the shifted weights.
        gramian: inner products of the gradients, shape [n, n], float64.
        weights: the update is ``sum_i weights[i] * g_i``, shape [n], float64.
        stationary: scalar bool; no direction helped everybody, so the rule's ``when_stationary`` applied.
        curvature: name -> `Curvature`, for the lookahead players that had a Hessian term.
    """

    players: tuple[str, ...]
    losses: Tensor
    gramian: Tensor
    weights: Tensor
    stationary: Tensor
    curvature: Mapping[str, Curvature] = field(default_factory=dict)

    @property
    def cosines(self) -> Tensor:
        """Cosines between the gradients, shape [n, n]; 0 beside a zero gradient."""
        return cosines(self.gramian)

    @property
    def norms(self) -> Tensor:
        """Lengths of the gradients, shape [n]."""
        return self.gramian.diagonal().sqrt()

    @property
    def length(self) -> Tensor:
        """Length of the agreed update, scalar (not of the noise that may have replaced it)."""
        return (self.weights @ self.gramian @ self.weights).clamp(min=0.0).sqrt()

    def numbers(self) -> dict[str, float | bool]:
        """Wait for the device and return plain numbers.

        Per player ``<name>_loss``, ``<name>_norm`` (length of its gradient) and ``<name>_weight``; with two
        players their ``cosine``; the ``length`` of the update; ``stationary``; and per lookahead player with a
        Hessian term ``<name>_hessian_share`` and, where it was estimated, ``<name>_hessian_error``.
        """
        found: dict[str, float | bool] = {}
        columns = (self.losses, self.norms, self.weights)
        for name, loss, norm, weight in zip(self.players, *torch.stack(columns).tolist(), strict=True):
            found |= {f"{name}_loss": loss, f"{name}_norm": norm, f"{name}_weight": weight}
        if len(self.players) == 2:
            found["cosine"] = self.cosines[0, 1].item()
        found |= {"length": self.length.item(), "stationary": bool(self.stationary)}
        for name, curvature in self.curvature.items():
            found[f"{name}_hessian_share"] = curvature.share.item()
            if curvature.error is not None:
                found[f"{name}_hessian_error"] = curvature.error.item()
        return found

    def check_finite(self) -> None:
        """Wait for the device and raise `NonFiniteError`, naming the players, unless all was finite."""
        faults = []
        numbers = torch.stack([self.losses, self.gramian.diagonal(), self.weights]).tolist()
        for name, loss, square, _ in zip(self.players, *numbers, strict=True):
            if not abs(loss) < float("inf"):
                faults.append(f"the loss of player {name!r} is {loss}")
            elif not square < float("inf"):
                faults.append(f"the gradient of player {name!r} has a squared length of {square}")
        if not faults:  # only then is a weight the rule's own fault
            faults = [
                f"the rule gives player {name!r} a weight of {weight}"
                for name, weight in zip(self.players, numbers[2], strict=True)
                if not abs(weight) < float("inf")
            ]
        if faults:
            raise NonFiniteError(f"{'; '.join(faults)}.")
