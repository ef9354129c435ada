"""What cannot be bargained over, found before anything moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.graph import Node

from amnesty.errors import InvalidInputError, LossError, ModelError, PrecisionError, ShapeError

if TYPE_CHECKING:
    from amnesty.bargaining.gramian import Gradient
    from amnesty.bargaining.vocabulary import Moving, Player


def check_players(players: Mapping[str, Player | None]) -> dict[str, Player]:
    """Return the players that have a batch in this step; raise `InvalidInputError` unless they can play."""
    present = {name: player for name, player in players.items() if player is not None}
    if not present:
        absent = f" All of {', '.join(players)} are `None`." if players else ""
        raise InvalidInputError(f"`backward` needs at least one player, such as `retain=lambda: loss(...)`.{absent}")
    for name, player in present.items():
        closures = [player] if callable(player) else player
        if not isinstance(closures, Sequence) or not closures or not all(callable(c) for c in closures):
            raise InvalidInputError(
                f"Player {name!r} must be a function that returns its loss, or a non-empty list of them, "
                f"found {type(player).__name__}. Write `{name}=lambda: loss(...)`: the graph is built "
                f"when its turn comes. (`{name}=None`: it has no batch in this step.)"
            )
    return present


def check_moving(moving: Moving, given: int) -> None:
    """Raise unless something can move, in a precision that bargaining survives."""
    if not moving:
        raise ModelError(
            f"None of the {given} `parameters` requires a gradient: there is nothing to "
            "move. Unfreeze some with `requires_grad_(True)`."
        )
    if any(p.dtype == torch.float16 for p, _ in moving):
        raise PrecisionError(
            "A parameter is float16: its gradients underflow and bargaining weights, which are "
            "inverse to the gradients' lengths, overflow. Keep float32 weights under "
            "`torch.autocast(..., torch.float16)` and pass `scaler=`, or use bfloat16."
        )


def check_scaler(scaler: torch.amp.GradScaler | None, lookahead: Mapping[str, object] | None) -> None:
    """Raise `PrecisionError` if lookahead players meet scaled losses, whose gradients are no steps."""
    if lookahead and scaler is not None and scaler.is_enabled():
        raise PrecisionError(
            f"`lookahead` (of {', '.join(lookahead)}) does not go with a `scaler`: steps and Hessian terms would be "
            "those of scaled losses. Use bfloat16 autocast or float32."
        )


def check_loss(name: str, loss: object) -> None:
    """Raise `LossError` unless a player's loss is a scalar with a gradient."""
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


def nodes(*tensors: Tensor) -> Iterator[Node]:
    """Yield every node of the graph behind the tensors, once."""
    seen: set[Node] = set()
    ahead = [x.grad_fn for x in tensors]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        yield node
        seen.add(node)
        ahead.extend(before for before, _ in node.next_functions)


def check_checkpoints(name: str, loss: Tensor) -> None:
    """Raise `LossError` if a loss runs through a reentrant activation checkpoint."""
    # With `inputs=`, autograd skips a reentrant checkpoint that no bargained parameter precedes, and the
    # parameters inside get no gradient, silently.
    if any(node.name() == "CheckpointFunctionBackward" for node in nodes(loss)):
        raise LossError(
            f"The loss of player {name!r} runs through a reentrant activation checkpoint, which cannot be "
            "bargained over. Use `torch.utils.checkpoint.checkpoint(..., use_reentrant=False)`."
        )


def check_differentiable(name: str, gradient: Gradient) -> None:
    """Raise `ModelError` if part of a gradient cannot be differentiated."""
    # Asked for parameters only, autograd would skip that part, silently.
    if any(node.name().endswith("Error") for node in nodes(*(g for g in gradient if g is not None))):
        raise no_second_derivative(name, "it runs through an autograd function marked `once_differentiable`.")


def no_second_derivative(name: str, why: str) -> ModelError:
    """Return the error that says what to do instead."""
    return ModelError(
        f"The gradient of player {name!r} cannot be differentiated, as `curvature='exact'` needs: {why} Use "
        "`curvature='finite-difference'` (smooth networks) or 'none', or a model that is not compiled."
    )


def check_weights(weights: object, players: int) -> None:
    """Raise `ShapeError` unless a rule returned one weight per player."""
    if not isinstance(weights, Tensor) or weights.shape != (players,):
        found = list(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise ShapeError(f"`rule` must return a tensor of shape [{players}], one weight per player, found {found}.")


def check_masks(parameters: Sequence[Tensor], masks: Sequence[Tensor | None]) -> None:
    """Raise unless there is a bool mask of its shape, or ``None``, for each parameter."""
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
