"""Gradients of several players in, one agreed update out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from amnesty.bargaining.agreement import Agreement
from amnesty.bargaining.gramian import gramian
from amnesty.bargaining.nash import Nash
from amnesty.bargaining.rules import Rule
from amnesty.errors import (
    InvalidInputError,
    LossError,
    ModelError,
    PrecisionError,
    ShapeError,
)

Player = Callable[[], Tensor] | Sequence[Callable[[], Tensor]]
"""What a player brings to a step: a closure that computes its loss, or several (micro-batches), whose
gradients are added before the bargain, so that the graphs never live together."""


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
        scaler: the `torch.amp.GradScaler` of a float16 autocast. Losses are scaled before each backward
            pass, the rule sees the unscaled Gram matrix, and ``p.grad`` is left scaled for ``scaler.step``.
        seed: of the noise direction.

    Raises:
        ModelError: there is nothing to move: all is frozen or masked.
        PrecisionError: a parameter is float16, in which gradients underflow and weights overflow.
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
        scaler: torch.amp.GradScaler | None = None,
        seed: int = 0,
    ) -> None:
        given = list(parameters.parameters() if isinstance(parameters, torch.nn.Module) else parameters)
        masks = list(masks) if masks is not None else [None] * len(given)
        _check_masks(given, masks)
        # Keyed by identity: a tied parameter is one parameter.
        unique = {id(p): (p, mask) for p, mask in zip(given, masks, strict=True)}
        self._parameters = [p for p, _ in unique.values()]
        self._masks = [mask for _, mask in unique.values()]
        self.rule: Rule = Nash() if rule is None else rule
        self.retaining = tuple(retaining)
        self._scaler = scaler
        self._seed = seed
        self._steps = 0
        self._moving()

    def backward(self, **players: Player) -> Agreement:
        """Leave the agreed update in ``p.grad`` and return the `Agreement`.

        Args:
            players: name -> closure that returns a scalar loss (or a sequence of such closures). They run in
                the order given, which is the order of every axis of the agreement.

        Raises:
            InvalidInputError: no player, or one that cannot be called.
            LossError: a loss is not a scalar, no bargained parameter has a gradient from it, or (looked up at
                the first step) it runs through a reentrant activation checkpoint.
            ModelError: no parameter requires a gradient.

        When it raises, ``p.grad`` is as it was before the call.
        """
        _check_players(players)
        parameters = self._moving()
        before = [p.grad for p, _ in parameters]
        for p, _ in parameters:
            p.grad = None
        try:
            losses, gradients = [], []
            for name, player in players.items():
                losses.append(self._play(name, player, parameters))
                gradients.append(self._take(name, parameters))
            agreement = self._agree(tuple(players), losses, gradients)
            update = self._combine(agreement, gradients)
        except BaseException:
            for (p, _), held in zip(parameters, before, strict=True):
                p.grad = held
            raise
        for (p, _), moved, held in zip(parameters, update, before, strict=True):
            p.grad = held if moved is None else moved if held is None else held.add_(moved)
        self._steps += 1
        return agreement

    def _moving(self) -> list[tuple[Tensor, Tensor | None]]:
        moving = [(p, m) for p, m in zip(self._parameters, self._masks, strict=True) if p.requires_grad]
        if not moving:
            raise ModelError(
                f"None of the {len(self._parameters)} `parameters` requires a gradient: there is nothing to "
                "move. Unfreeze some with `requires_grad_(True)`."
            )
        for p, _ in moving:
            if p.dtype == torch.float16:
                raise PrecisionError(
                    "A parameter is float16: its gradients underflow and bargaining weights, which are "
                    "inverse to the gradients' lengths, overflow. Keep float32 weights under "
                    "`torch.autocast(..., torch.float16)` and pass `scaler=`, or use bfloat16."
                )
        return moving

    def _play(self, name: str, player: Player, parameters: list[tuple[Tensor, Tensor | None]]) -> Tensor:
        total: Tensor | None = None
        for closure in [player] if callable(player) else player:
            loss = closure()
            _check_loss(name, loss)
            if self._steps == 0:
                _check_checkpoints(name, loss)
            scaled = loss if self._scaler is None else self._scaler.scale(loss)
            # Through .grad, not autograd.grad, so that the hooks of distributed wrappers run.
            torch.autograd.backward(scaled, inputs=[p for p, _ in parameters])
            detached = loss.detach().to(torch.float64).reshape(())
            total = detached if total is None else total + detached
        assert total is not None
        return total

    def _take(self, name: str, parameters: list[tuple[Tensor, Tensor | None]]) -> list[Tensor | None]:
        gradient = []
        for p, mask in parameters:
            gradient.append(p.grad if mask is None or p.grad is None else p.grad.mul_(mask))
            p.grad = None
        if all(g is None for g in gradient):
            raise LossError(
                f"The loss of player {name!r} does not depend on any of the bargained parameters. "
                "Compute it with the same model whose parameters were given to `Bargain`."
            )
        return gradient

    def _agree(self, names: tuple[str, ...], losses: list[Tensor], gradients: list[list[Tensor | None]]) -> Agreement:
        inner = gramian(gradients)
        scale = self._scale(inner.device)
        inner = inner / scale / scale
        weights = self.rule(inner)
        _check_weights(weights, len(names))
        weights = weights.to(inner)
        stationary = (weights == 0).all()
        device = inner.device
        # Asked only where asking is free: elsewhere the rule runs twice and the device chooses.
        possible = device.type != "cpu" or stationary.item()
        if possible and getattr(self.rule, "when_stationary", "skip") == "retain":
            keeps = torch.stack([torch.full_like(inner[0, 0], float(n in self.retaining)) for n in names])
            # The others' rows vanish, so that they abstain and the retaining players bargain alone.
            alone = torch.where(keeps.outer(keeps) > 0, inner, 0.0)
            weights = torch.where(stationary, self.rule(alone).to(inner), weights)
        return Agreement(names, torch.stack([x.to(device) for x in losses]), inner, weights, stationary)

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


def _check_players(players: dict[str, Player]) -> None:
    if not players:
        raise InvalidInputError("`backward` needs at least one player, such as `retain=lambda: loss(...)`.")
    for name, player in players.items():
        closures = [player] if callable(player) else player
        if not isinstance(closures, Sequence) or not closures or not all(callable(c) for c in closures):
            raise InvalidInputError(
                f"Player {name!r} must be a function that returns its loss, or a non-empty list of them, "
                f"found {type(player).__name__}. Write `{name}=lambda: loss(...)`: the graph is built "
                "when its turn comes."
            )


def _check_loss(name: str, loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise LossError(
            f"The loss of player {name!r} must be a scalar tensor, found {found}. Reduce it, say by `.mean()`."
        )
    if not loss.requires_grad:
        raise LossError(
            f"The loss of player {name!r} has no gradient: it was computed under `no_grad`, detached, or "
            "without any trainable parameter."
        )


def _check_checkpoints(name: str, loss: Tensor) -> None:
    # With `inputs=`, autograd skips a reentrant checkpoint that no bargained parameter precedes, and the
    # parameters inside get no gradient, silently.
    seen: set[torch.autograd.graph.Node] = set()
    ahead = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            raise LossError(
                f"The loss of player {name!r} runs through a reentrant activation checkpoint, which cannot be "
                "bargained over. Use `torch.utils.checkpoint.checkpoint(..., use_reentrant=False)`."
            )
        seen.add(node)
        ahead.extend(before for before, _ in node.next_functions)


def _check_weights(weights: object, players: int) -> None:
    if not isinstance(weights, Tensor) or weights.shape != (players,):
        found = list(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise ShapeError(f"`rule` must return a tensor of shape [{players}], one weight per player, found {found}.")


def _check_masks(parameters: list[Tensor], masks: list[Tensor | None]) -> None:
    if len(masks) != len(parameters):
        raise ShapeError(f"`masks` has {len(masks)} entries for {len(parameters)} parameters.")
    for k, (p, mask) in enumerate(zip(parameters, masks, strict=True)):
        if mask is not None and (mask.shape != p.shape or mask.dtype != torch.bool):
            raise ShapeError(
                f"`masks[{k}]` must be a bool tensor of shape {list(p.shape)}, found {mask.dtype} of shape "
                f"{list(mask.shape)}."
            )
    if masks and all(mask is not None and not mask.any() for mask in masks):
        raise ModelError("No entry of `masks` is True: there is nothing to move.")
