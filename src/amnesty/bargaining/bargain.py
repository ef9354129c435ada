"""Gradients of several players in, one agreed update out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from amnesty.bargaining.agreement import Agreement
from amnesty.bargaining.checks import check_masks, check_moving, check_players, check_scaler, check_weights
from amnesty.bargaining.gramian import gramian
from amnesty.bargaining.lookahead import Lookahead
from amnesty.bargaining.looking import Looking, Played
from amnesty.bargaining.nash import Nash
from amnesty.bargaining.players import Turns
from amnesty.bargaining.rules import Rule
from amnesty.bargaining.vocabulary import Player


class Bargain:
    """Turns the losses of n players into one update that a rule agreed on; used like ``loss.backward()``.

    ``backward`` runs the players one after the other, so that one autograd graph is alive at a time and two
    players cost two backward passes. It keeps one copy of the gradient per player beyond the first and
    combines them in place. Afterwards ``p.grad`` holds the update (added to what was there, as
    ``loss.backward()`` does), and any optimiser, gradient clipper or scheduler follows.

    Args:
        parameters: the tensors to move, or a module whose parameters they are. Those without ``requires_grad`` are
            left alone (looked up at each step), tied ones count once.
        rule: a callable from the Gram matrix to weights; see `Rule`.
        retaining: names of the players that keep what is to be kept. Where the rule finds no agreement (all
            weights 0) and its ``when_stationary`` is ``"retain"`` (the default), these bargain alone; with
            ``"skip"`` nothing moves; with ``"noise"`` the update is a random direction of length 1 (this
            choice waits for the device once a step).
        masks: for each parameter a bool tensor of its shape, or ``None``; only coordinates that are True are
            bargained over and moved. (An optimiser's momentum and weight decay can still move the others:
            see `amnesty.training.FrozenCoordinates`.)
        lookahead: name of a player -> how it looks past another player's step; see `Lookahead`.
        buffers: tensors, such as batch-norm statistics, that evaluations at shifted weights leave as they were (plain
            evaluations, an inner player's included, still move them); by default the module's, where
            ``parameters`` is one. Only lookahead players need them.
        scaler: the `torch.amp.GradScaler` of a float16 autocast. Losses are scaled before each backward
            pass, the rule sees the unscaled Gram matrix, and ``p.grad`` is left scaled for ``scaler.step``.
        seed: of the noise direction.

    Raises:
        ModelError: there is nothing to move: all is frozen or masked.
        PrecisionError: a parameter is float16, in which gradients underflow and weights overflow; or there
            are lookahead players beside a ``scaler``.
        InvalidInputError: a player looks past its own step.
        ShapeError: ``masks`` do not fit the parameters.

    Example:
        >>> theta = torch.tensor([1.0, 0.0], requires_grad=True)
        >>> bargain = Bargain([theta], rule=Nash())
        >>> agreement = bargain.backward(forget=lambda: 9 * theta[0], retain=lambda: theta[1])
        >>> theta.grad
        tensor([0.7071, 0.7071])
        >>> agreement.cosines[0, 1].item(), agreement.stationary.item()
        (0.0, False)
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | torch.nn.Module,
        rule: Rule | None = None,
        retaining: Sequence[str] = ("retain",),
        masks: Sequence[Tensor | None] | None = None,
        *,
        lookahead: Mapping[str, Lookahead] | None = None,
        buffers: Iterable[Tensor] | None = None,
        scaler: torch.amp.GradScaler | None = None,
        seed: int = 0,
    ) -> None:
        module = parameters if isinstance(parameters, torch.nn.Module) else None
        given = list(parameters.parameters() if isinstance(parameters, torch.nn.Module) else parameters)
        masks = list(masks) if masks is not None else [None] * len(given)
        check_masks(given, masks)
        check_scaler(scaler, lookahead)
        # Keyed by identity: a tied parameter is one parameter.
        unique = {id(p): (p, mask) for p, mask in zip(given, masks, strict=True)}
        self._parameters = [p for p, _ in unique.values()]
        self._masks = [mask for _, mask in unique.values()]
        self.rule: Rule = Nash() if rule is None else rule
        self.retaining = tuple(retaining)
        self._looking = Looking(lookahead or {}, list(buffers) if buffers is not None else module or [])
        self._scaler = scaler
        self._seed = seed
        self._steps = 0
        self._known: set[str] = set()
        self._moving()

    def backward(self, **players: Player | None) -> Agreement:
        """Leave the agreed update in ``p.grad`` and return the `Agreement`.

        Args:
            players: name -> closure that returns a scalar loss (or a sequence of such closures). They run in
                the order given, which is the order of every axis of the agreement; only that a lookahead
                player waits for its inner one. A player that is ``None`` has no batch in this step: it
                abstains. The rule still sees it, with a zero row and column; the agreement does not list it.

        Raises:
            InvalidInputError: no player, or one that cannot be called; or a name in ``lookahead`` is that of
                no player.
            LossError: a loss is not a scalar, no bargained parameter has a gradient from it, or (looked up at
                the player's first step) it runs through a reentrant activation checkpoint.
            ModelError: no parameter requires a gradient; or the inner loss of a lookahead player is not as
                smooth as its ``curvature`` asks for.

        When it raises, ``p.grad`` is as it was before the call. With lookahead players, so are the
        parameters, the buffers and the random state.
        """
        present = check_players(players)
        self._looking.check(players)
        moving = self._moving()
        before = [p.grad for p, _ in moving]
        for p, _ in moving:
            p.grad = None
        try:
            with self._looking.undone_by_an_error(moving):
                played = self._looking.play(present, Turns(moving, self._scaler, self._known))
                agreement = self._agree(tuple(players), played, len(moving))
                update = self._combine(agreement, [played[name].gradient for name in agreement.players])
        except BaseException:
            for (p, _), held in zip(moving, before, strict=True):
                p.grad = held
            raise
        for (p, _), moved, held in zip(moving, update, before, strict=True):
            p.grad = held if moved is None else moved if held is None else held.add_(moved)
        self._steps += 1
        self._known |= present.keys()
        self._looking.done(played)
        return agreement

    def state_dict(self) -> dict[str, Any]:
        """Return what it counted so far, from which the noise directions and the error estimates follow."""
        return {"steps": self._steps, "known": sorted(self._known), "looking": self._looking.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._steps, self._known = state["steps"], set(state["known"])
        self._looking.load_state_dict(state["looking"])

    def _moving(self) -> list[tuple[Tensor, Tensor | None]]:
        moving = [(p, m) for p, m in zip(self._parameters, self._masks, strict=True) if p.requires_grad]
        check_moving(moving, len(self._parameters))
        return moving

    def _agree(self, names: tuple[str, ...], played: Mapping[str, Played], parameters: int) -> Agreement:
        absent = [None] * parameters
        inner = gramian([played[name].gradient if name in played else absent for name in names])
        device = inner.device
        scale = self._scale(device)
        inner = inner / scale / scale
        weights = self.rule(inner)
        check_weights(weights, len(names))
        here = [i for i, name in enumerate(names) if name in played]
        weights = _entries(weights.to(inner), here)
        stationary = (weights == 0).all()
        # Asked only where asking is free: elsewhere the rule runs twice and the device chooses.
        possible = device.type != "cpu" or stationary.item()
        if possible and getattr(self.rule, "when_stationary", "skip") == "retain":
            keeps = torch.stack([torch.full_like(inner[0, 0], float(n in self.retaining)) for n in names])
            # The others' rows vanish, so that they abstain and the retaining players bargain alone.
            alone = torch.where(keeps.outer(keeps) > 0, inner, 0.0)
            weights = torch.where(stationary, _entries(self.rule(alone).to(inner), here), weights)
        present = tuple(names[i] for i in here)
        return Agreement(
            players=present,
            losses=torch.stack([played[name].loss.to(device) for name in present]),
            gramian=_entries(_entries(inner, here).T, here),
            weights=weights,
            stationary=stationary,
            curvature={name: found for name in present if (found := played[name].curvature) is not None},
        )

    def _scale(self, device: torch.device) -> Tensor:
        one = torch.ones((), device=device)
        return (one if self._scaler is None else self._scaler.scale(one)).to(torch.float64)

    def _combine(self, agreement: Agreement, gradients: list[list[Tensor | None]]) -> list[Tensor | None]:
        # Scaled gradients need no correction: sum_i a_i (S g_i) is S times the update, which is what a
        # scaler expects to find.
        for i, gradient in enumerate(gradients):
            for group in _by_device(gradient):
                torch._foreach_mul_(group, agreement.weights[i].to(group[0].device, group[0].dtype))
        update = gradients[0]
        for gradient in gradients[1:]:
            _add_into(update, gradient)
        if getattr(self.rule, "when_stationary", None) == "noise" and agreement.stationary.item():
            self._noise(update)
        return update

    def _noise(self, update: list[Tensor | None]) -> None:
        # Seeded by the step: every step draws another direction, and a repeated run the same ones.
        digest = hashlib.sha256(f"{self._seed} {self._steps}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]))
        square = 0.0
        for k, (p, mask) in enumerate(self._moving()):
            noise = torch.randn(p.shape, generator=generator).to(p)
            update[k] = noise if mask is None else noise.mul_(mask)
            square += noise.double().square().sum().item()
        length = self._scale(torch.device("cpu")).item() / square**0.5
        for moved in update:
            assert moved is not None
            moved.mul_(length)


def _by_device(gradient: list[Tensor | None]) -> Iterator[list[Tensor]]:
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for g in gradient:
        if g is not None:
            groups.setdefault((g.device, g.dtype), []).append(g)
    yield from groups.values()


def _add_into(update: list[Tensor | None], gradient: list[Tensor | None]) -> None:
    for k, g in enumerate(gradient):
        if g is not None:
            held = update[k]
            update[k] = g if held is None else held.add_(g)
            gradient[k] = None  # freed here, so that the copies shrink while the update grows


def _entries(tensor: Tensor, chosen: list[int]) -> Tensor:
    # One by one: an index from the host would make the host wait for the device.
    return tensor if len(chosen) == len(tensor) else torch.stack([tensor[i] for i in chosen])
