"""The loop that every iterative method runs: pair batches, bargain, step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from amnesty.bargaining import Agreement, Bargain, Rule, Sum
from amnesty.data import Batches, Pairing, pair, steps
from amnesty.errors import InvalidInputError, NonFiniteError, PrecisionError
from amnesty.seeds import generator
from amnesty.tasks import Role, Source, device_of, to_device
from amnesty.training.batchnorm import (
    BATCH_NORM_POLICIES,
    BatchNormPolicy,
    BufferGuard,
    Statistics,
    set_modes,
)
from amnesty.training.masks import FrozenCoordinates, Masks
from amnesty.training.progress import Record, Watch
from amnesty.training.schedules import SCHEDULES, Schedule, scheduler

PRECISIONS = ("float32", "bfloat16")

MakeOptimizer = Callable[[Any, int], Optimizer]
"""Makes the optimiser of the parameters given, for a run of so many steps, such as
``lambda parameters, steps: torch.optim.SGD(parameters, lr=0.01)``."""


@dataclass
class Loop:
    """One unlearning run on a model of its own.

    Attributes:
        model: changed in place.
        parts: name of a part of the data -> where it comes from.
        seed: of data order and labels; each use has its own generator.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast with float32 weights.
        workers: processes that read data sets that are not in memory.
        watch: told of every step.
        history: one record a step, over all calls of `run`; see `Record`.
    """

    model: nn.Module
    parts: Mapping[str, Source]
    seed: int = 0
    precision: str = "float32"
    workers: int = 0
    watch: Watch | None = None
    history: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise PrecisionError(f"`precision` must be one of {', '.join(PRECISIONS)}, found {self.precision!r}.")

    def run(
        self,
        players: Mapping[str, Role],
        *,
        optimizer: MakeOptimizer,
        epochs: int,
        at_least: int = 0,
        rule: Rule,
        alone: Rule | None = None,
        retaining: tuple[str, ...] = ("retain",),
        batch_size: int | Mapping[str, int] = 256,
        pairing: Pairing = "cycle_forget",
        schedule: Schedule = "constant",
        batch_norm: BatchNormPolicy = "train",
        masks: Masks | None = None,
        max_norm: float | None = None,
    ) -> None:
        """Run ``epochs`` passes of steps.

        Args:
            players: name -> role, in the order of the rule's axes; the last one leads the pairing.
            optimizer: see `MakeOptimizer`.
            epochs: passes over the leader's data.
            at_least: steps that the run has at least; more passes are made where there is little data.
            rule: how the players' gradients become one update.
            alone: the rule of steps at which a single player has a batch, while others exist; a plain step
                by default.
            retaining: names of the players whose batches may move batch-norm statistics under
                ``"retain_stats"``, and who move alone where no agreement exists.
            batch_size: of every player, or one for each by name.
            pairing: see `amnesty.data.pair`.
            schedule: see `Schedule`.
            batch_norm: see `BatchNormPolicy`.
            masks: see `Masks`; held exactly.
            max_norm: clip the update to this length.

        Raises:
            InvalidInputError: a setting is unknown or out of range, or a player needs a part of the data
                that was not given.
            NonFiniteError: a loss, a gradient or a rule's weight is not finite: nothing has moved since the
                step before, and the error holds the model as that step left it. Or a weight of the model is
                not finite: found after the last step, or where a loss is not finite for that reason.
        """
        self._check(players, epochs, schedule, batch_norm)
        sizes = batch_size if isinstance(batch_size, Mapping) else dict.fromkeys(players, batch_size)
        streams = {
            name: Batches(self.parts[role.part], sizes[name], self.seed, name, self.workers)
            for name, role in players.items()
        }
        each = steps(streams, pairing)
        epochs = max(epochs, -(-at_least // each))
        stepper = _Stepper(self, players, rule, alone or Sum(), retaining, masks or {}, max_norm)
        stepper.start(optimizer, schedule, epochs * each, batch_norm)
        total = len(self.history) + epochs * each
        for epoch in range(1, epochs + 1):
            for batches in pair(streams, pairing, epoch):
                self.history.append(stepper.step(batches, epoch))
                if self.watch is not None:
                    self.watch(self.history[-1], total)
        self.check_weights()

    def check_weights(self) -> None:
        """Raise `NonFiniteError` if a weight of the model is not finite."""
        broken = [name for name, p in self.model.named_parameters() if not p.isfinite().all()]
        if broken:
            step = len(self.history)
            raise NonFiniteError(
                f"Weights of {broken[0]!r} are not finite after step {step}. A smaller `lr` usually helps.",
                step,
                self.model,
            )

    def _check(self, players: Mapping[str, Role], epochs: int, schedule: str, batch_norm: str) -> None:
        faults = []
        if epochs < 1:
            faults.append(f"`epochs` must be at least 1, found {epochs}")
        for name, found, known in (
            ("schedule", schedule, SCHEDULES),
            ("batch_norm", batch_norm, BATCH_NORM_POLICIES),
        ):
            if found not in known:
                faults.append(f"`{name}` must be one of {', '.join(known)}, found {found!r}")
        for name, role in players.items():
            if role.part not in self.parts:
                faults.append(f"player {name!r} needs the {role.part} set, which was not given")
        if faults:
            raise InvalidInputError(f"{'; '.join(faults)}.")


class _Stepper:
    """What one call of `Loop.run` keeps from step to step."""

    def __init__(
        self,
        loop: Loop,
        players: Mapping[str, Role],
        rule: Rule,
        alone: Rule,
        retaining: tuple[str, ...],
        masks: Masks,
        max_norm: float | None,
    ) -> None:
        named = dict(loop.model.named_parameters())
        pick = [masks.get(name) for name in named]
        self.loop, self.players, self.retaining, self.max_norm = loop, players, retaining, max_norm
        self.moving = [p for p in named.values() if p.requires_grad]
        self.frozen = FrozenCoordinates(loop.model, masks)
        self.together, self.alone = (
            Bargain(named.values(), chosen, retaining=retaining, masks=pick, seed=loop.seed)
            for chosen in (rule, alone)
        )
        self.labels = {name: generator(loop.seed, "labels", name) for name in players}

    def start(self, optimizer: MakeOptimizer, schedule: Schedule, total: int, policy: BatchNormPolicy) -> None:
        """Make the optimiser and put the model into its modes."""
        self.optimizer = optimizer(self.moving, total)
        self.rates = scheduler(self.optimizer, schedule, total)
        set_modes(self.loop.model, policy)
        self.guard = BufferGuard(self.loop.model)
        self.statistics = Statistics(self.loop.model)
        self.followed = self.retaining if policy == "retain_stats" else tuple(self.players)

    def step(self, batches: Mapping[str, Any], epoch: int) -> Record:
        """Bargain over one set of batches, move the weights and return the record."""
        self.guard.remember()
        lone = len(batches) == 1 and len(self.players) > 1
        closures = {name: self._closure(name, batches[name]) for name in self.players if name in batches}
        try:
            with torch.autocast(device_of(self.loop.model).type, enabled=False):  # the caller's, in backward passes
                agreement = (self.alone if lone else self.together).backward(**closures)
        finally:
            self.statistics.follow(True)
        record = self._record(agreement, epoch)
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.moving, self.max_norm)
        self.optimizer.step()
        self.frozen.after_step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.rates.step()
        return record

    def _closure(self, name: str, batch: Any) -> Callable[[], Tensor]:
        model, role, device = self.loop.model, self.players[name], device_of(self.loop.model)

        def loss() -> Tensor:
            half = self.loop.precision == "bfloat16"
            # Until the next player's turn, so that activation checkpoints recompute alike.
            self.statistics.follow(name in self.followed)
            # No cache: inside an autocast of the caller's it would outlive the step that moves the weights.
            with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
                return role.loss(model, to_device(batch, device), self.labels[name])

        return loss

    def _record(self, agreement: Agreement, epoch: int) -> Record:
        step = len(self.loop.history) + 1
        try:
            agreement.check_finite()
        except NonFiniteError as error:
            self.guard.restore()
            self.optimizer.zero_grad(set_to_none=True)
            self.loop.check_weights()
            raise NonFiniteError(
                f"Step {step} (epoch {epoch}): {error} The weights have not moved since step {step - 1}, the last "
                "good one; they are in this error's `model`. A smaller `lr`, or a `cap` where the loss is unbounded, "
                "usually helps.",
                step,
                self.loop.model,
            ) from error
        rate = float(self.rates.get_last_lr()[0])
        return {"step": step, "epoch": epoch, "lr": rate, **agreement.numbers()}
