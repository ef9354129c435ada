"""One step of the loop: bargain, adjust, move, put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from amnesty.bargaining import Agreement, Bargain, Lookahead, Rule
from amnesty.errors import NonFiniteError
from amnesty.tasks import Role, device_of, to_device
from amnesty.training.batchnorm import BatchNormPolicy, BufferGuard, Statistics, set_modes
from amnesty.training.hooks import Hook
from amnesty.training.masks import FrozenCoordinates, Masks
from amnesty.training.sam import SAM
from amnesty.training.schedules import Factor, Schedule, scheduler

MakeOptimizer = Callable[[Any, int], Optimizer]
"""Makes the optimiser of the parameters given, for a run of so many steps, such as
``lambda parameters, steps: torch.optim.SGD(parameters, lr=0.01)``."""


class Stepper:
    """What one call of `Loop.run` keeps from step to step.

    Args:
        model: changed in place.
        players: name -> role.
        rule, alone: of steps with all players, and with a single one of several.
        retaining: names of the players that keep.
        lookahead: of players, by name.
        masks: of this run. frozen: those of the whole run of the method.
        max_norm: length to which updates are clipped.
        hooks: see `Hook`.
        labels: generator of each player. seed: of noise. half: autocast to bfloat16.
    """

    def __init__(
        self,
        model: nn.Module,
        players: Mapping[str, Role],
        *,
        rule: Rule,
        alone: Rule,
        retaining: tuple[str, ...],
        lookahead: Mapping[str, Lookahead],
        masks: Masks,
        frozen: FrozenCoordinates,
        max_norm: float | None,
        hooks: Sequence[Hook],
        labels: Mapping[str, torch.Generator],
        seed: int,
        half: bool,
    ) -> None:
        named = dict(model.named_parameters())
        pick = [masks.get(name) for name in named]
        self.model, self.players, self.retaining, self.max_norm = model, players, retaining, max_norm
        self.hooks, self.labels, self.half = hooks, labels, half
        self.frozen = (FrozenCoordinates(model, masks), frozen)
        self.moving = [p for p in named.values() if p.requires_grad]
        buffers = list(model.buffers())
        self.together, self.alone = (
            Bargain(named.values(), chosen, retaining, pick, seed=seed, lookahead=ahead, buffers=buffers)
            for chosen, ahead in ((rule, lookahead), (alone, {}))
        )

    def start(
        self, optimizer: MakeOptimizer, schedule: Schedule | Factor, total: int, policy: BatchNormPolicy
    ) -> None:
        """Make the optimiser and put the model into its modes."""
        for frozen in self.frozen:
            frozen.restore()
        self.optimizer = optimizer(self.moving, total)
        self.rates = scheduler(self.optimizer, schedule, total)
        set_modes(self.model, policy)
        self.guard = BufferGuard(self.model)
        self.statistics = Statistics(self.model)
        self.followed = self.retaining if policy == "retain_stats" else tuple(self.players)

    def step(self, batches: Mapping[str, Any], step: int, epoch: int) -> dict[str, Any]:
        """Bargain over one set of batches, move the weights and return the record of step ``step``, from 1."""
        self.guard.remember()
        lone = len(batches) == 1 and len(self.players) > 1
        bargain = self.alone if lone else self.together
        closures = {
            name: self._closure(name, batches[name]) if name in batches else None
            for name in (batches if lone else self.players)
        }
        agreement = self._bargain(bargain, closures, step, epoch, self.followed)
        record = {"step": step, "epoch": epoch, "lr": float(self.rates.get_last_lr()[0]), **agreement.numbers()}
        self._adjust()
        if isinstance(self.optimizer, SAM):
            self.optimizer.step(lambda: self._again(bargain, closures, step, epoch))
        else:
            self._clip()
            self.optimizer.step()
        self.call("after_step")
        for frozen in self.frozen:
            frozen.after_step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.rates.step()
        return record

    def state(self, optimizer: bool) -> dict[str, Any]:
        """Return what changes from step to step beside the model; nothing is copied.

        Args:
            optimizer: with the state of the optimiser and the schedule.
        """
        found: dict[str, Any] = {
            "bargains": [bargain.state_dict() for bargain in (self.together, self.alone)],
            "hooks": [None if hook.state is None else hook.state() for hook in self.hooks],
        }
        if optimizer:
            found |= {"optimizer": self.optimizer.state_dict(), "rates": self.rates.state_dict()}
        return found

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put a `state` back, after `start`."""
        for bargain, own in zip((self.together, self.alone), state["bargains"], strict=True):
            bargain.load_state_dict(own)
        for hook, own in zip(self.hooks, state["hooks"], strict=True):
            if hook.restore is not None:
                hook.restore(own)
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.rates.load_state_dict(state["rates"])

    def _bargain(
        self, bargain: Bargain, closures: Mapping[str, Any], step: int, epoch: int, followed: tuple[str, ...]
    ) -> Agreement:
        self._following = followed
        try:
            with torch.autocast(device_of(self.model).type, enabled=False):  # the caller's, in backward passes
                agreement = bargain.backward(**closures)
        finally:
            self.statistics.follow(True)
        self._check(agreement, step, epoch)
        return agreement

    def _again(self, bargain: Bargain, closures: Mapping[str, Any], step: int, epoch: int) -> None:
        # Uphill (SAM) the same batches and labels, and statistics that stay.
        self.optimizer.zero_grad(set_to_none=True)
        self._bargain(bargain, closures, step, epoch, followed=())
        self._adjust()
        self._clip()

    def _closure(self, name: str, batch: Any) -> Callable[[], Tensor]:
        model, role, device = self.model, self.players[name], device_of(self.model)
        labels, moved = self.labels[name], to_device(batch, device)
        first = labels.get_state()

        def loss() -> Tensor:
            labels.set_state(first)  # a batch that is asked again, by a lookahead say, gets the same labels
            # Until the next player's turn, so that activation checkpoints recompute alike.
            self.statistics.follow(name in self._following)
            # No cache: inside an autocast of the caller's it would outlive the step that moves the weights.
            with torch.autocast(device.type, torch.bfloat16, enabled=self.half, cache_enabled=False):
                return role.loss(model, moved, labels)

        return loss

    def _adjust(self) -> None:
        self.call("before_step")
        for frozen in self.frozen if self.hooks else ():  # hooks know nothing of masks
            frozen.before_step()

    def _clip(self) -> None:
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.moving, self.max_norm)

    def call(self, moment: str, *epoch: int) -> None:
        """Call the hooks of a moment; see `Hook`."""
        for hook in self.hooks:
            act = getattr(hook, moment)
            if act is not None:
                act(*epoch)

    def _check(self, agreement: Agreement, step: int, epoch: int) -> None:
        try:
            agreement.check_finite()
        except NonFiniteError as error:
            self.guard.restore()
            self.optimizer.zero_grad(set_to_none=True)
            check_weights(self.model, step - 1)
            raise NonFiniteError(
                f"Step {step} (epoch {epoch}): {error} The weights have not moved since step {step - 1}, the last "
                "good one; they are in this error's `model`. A smaller `lr`, or a `cap` where the loss is unbounded, "
                "usually helps.",
                step,
                self.model,
            ) from error


def check_weights(model: nn.Module, step: int) -> None:
    """Raise `NonFiniteError` if a weight of the model is not finite after step ``step``."""
    broken = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    if broken:
        raise NonFiniteError(
            f"Weights of {broken[0]!r} are not finite after step {step}. A smaller `lr` usually helps.", step, model
        )
