"""One call of `Loop.run`, as it is saved and gone on with."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from amnesty.errors import CheckpointError
from amnesty.training.keeper import Keeper
from amnesty.training.progress import Record
from amnesty.training.states import load_model, model_hash, model_state, random_states, set_random_states
from amnesty.training.stepper import Stepper


class Running(Protocol):
    """What a phase changes of a `Loop`."""

    model: nn.Module
    history: list[Record]
    epochs: int
    keeper: Keeper | None
    labels: dict[str, torch.Generator]


class Phase:
    """Saves a call of `Loop.run` from step to step, and begins where an earlier sitting left it.

    Without a keeper it does nothing.

    Args:
        loop: whose call this is, before its first step.
        stepper: of the call, with its optimiser.
        steps: of the whole call.
        lasts: whether later calls will use the optimiser again.

    Raises:
        CheckpointError: the rule changes from step to step in a way that cannot be saved.
    """

    def __init__(self, loop: Running, stepper: Stepper, steps: int, lasts: bool) -> None:
        self._loop, self._stepper, self._steps, self._lasts = loop, stepper, steps, lasts
        self._first, self._over = len(loop.history), False
        if loop.keeper is not None:
            _refuse_changing_rules(stepper)

    def enter(self) -> tuple[int, int]:
        """Return the pass to begin with, from 1, and how many of its steps were made before.

        Raises:
            CheckpointError: this is not the call that was saved.
        """
        if self._loop.keeper is None:
            return 1, 0
        self._plan = {
            "players": list(self._stepper.players),
            "steps": self._steps,
            "hooks": len(self._stepper.hooks),
            "first": self._first,
            "passes": self._loop.epochs,
            "model": model_hash(self._loop.model),
        }
        found = self._loop.keeper.enter(self._plan)
        if found is None:
            return 1, 0
        self._over, state = found
        self._restore(state)
        epoch, made = state["position"]
        return epoch, made

    def stepped(self, epoch: int, made: int) -> None:
        """After step ``made`` of a pass, save it if it is time to, and stop if asked to; see `Keeper.stepped`."""
        if self._loop.keeper is not None:
            self._loop.keeper.stepped(
                len(self._loop.history), self._plan, lambda: {**self._state(True), "position": (epoch, made)}
            )

    def leave(self) -> None:
        """Save how the call ended."""
        if self._loop.keeper is not None and not self._over:
            # Behind the last pass, of which there are at most as many as steps.
            state = {**self._state(self._lasts), "position": (self._steps + 1, 0)}
            self._loop.keeper.leave(len(self._loop.history), self._plan, state)

    def _state(self, optimizer: bool) -> dict[str, Any]:
        loop = self._loop
        assert loop.keeper is not None
        return {
            "model": model_state(loop.model),
            "stepper": self._stepper.state(optimizer),
            "history": loop.history[self._first :],
            "epochs": loop.epochs,
            "labels": {name: generator.get_state() for name, generator in loop.labels.items()},
            "random": random_states(loop.keeper.device),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        loop = self._loop
        assert loop.keeper is not None
        load_model(loop.model, state.pop("model"))
        self._stepper.restore(state.pop("stepper"))
        loop.history.extend(state["history"])
        loop.epochs = state["epochs"]
        for name, generator in state["labels"].items():
            loop.labels.setdefault(name, torch.Generator()).set_state(generator)
        set_random_states(state["random"], loop.keeper.device)


def _refuse_changing_rules(stepper: Stepper) -> None:
    for bargain in (stepper.together, stepper.alone):
        rule = getattr(bargain.rule, "weighting", bargain.rule)
        if callable(getattr(rule, "reset", None)):  # as the stateful weightings of TorchJD have it
            raise CheckpointError(
                f"The rule {type(rule).__name__} remembers earlier steps, in a way that cannot be saved. Run without "
                "checkpoints, or choose another rule."
            )
