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
    batch_norms,
    kept_statistics,
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
            NonFiniteError: a loss or gradient is not finite. The weights have not moved; the error holds
                the model as the last good step left it.
        """
        self._check(players, epochs, schedule, batch_norm)
        sizes = batch_size if isinstance(batch_size, Mapping) else dict.fromkeys(players, batch_size)
        streams = {
            name: Batches(self.parts[role.part], sizes[name], self.seed, name, self.workers)
            for name, role in players.items()
        }
        named = dict(self.model.named_parameters())
        masks = masks or {}
        frozen = FrozenCoordinates(self.model, masks)
        pick = [masks.get(name) for name in named]
        bargains = {
            alone_now: Bargain(named.values(), chosen, retaining=retaining, masks=pick, seed=self.seed)
            for alone_now, chosen in ((False, rule), (True, alone or Sum()))
        }
        moving = [p for p in named.values() if p.requires_grad]
        each = steps(streams, pairing)
        epochs = max(epochs, -(-at_least // each))
        total = epochs * each
        stepper = optimizer(moving, total)
        rates = scheduler(stepper, schedule, total)
        labels = {name: generator(self.seed, "labels", name) for name in players}
        guard, first = BufferGuard(self.model), len(self.history)
        set_modes(self.model, batch_norm)
        for epoch in range(1, epochs + 1):
            for batches in pair(streams, pairing, epoch):
                guard.remember()
                closures = {
                    name: self._closure(players[name], batches[name], labels[name], batch_norm, name in retaining)
                    for name in players
                    if name in batches
                }
                bargain = bargains[len(batches) == 1 < len(players)]
                agreement = bargain.backward(**closures)
                record = self._record(agreement, epoch, float(rates.get_last_lr()[0]), guard, stepper)
                if max_norm is not None:
                    torch.nn.utils.clip_grad_norm_(moving, max_norm)
                stepper.step()
                frozen.after_step(stepper)
                stepper.zero_grad(set_to_none=True)
                rates.step()
                self.history.append(record)
                if self.watch is not None:
                    self.watch(record, first + total)

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

    def _closure(
        self, role: Role, batch: Any, labels: torch.Generator, policy: BatchNormPolicy, retains: bool
    ) -> Callable[[], Tensor]:
        device = device_of(self.model)
        keep = batch_norms(self.model) if policy == "retain_stats" and not retains else []

        def loss() -> Tensor:
            half = self.precision == "bfloat16"
            with kept_statistics(keep), torch.autocast(device.type, torch.bfloat16, enabled=half):
                return role.loss(self.model, to_device(batch, device), labels)

        return loss

    def _record(
        self, agreement: Agreement, epoch: int, rate: float, guard: BufferGuard, optimizer: Optimizer
    ) -> Record:
        step = len(self.history) + 1
        try:
            agreement.check_finite()
        except NonFiniteError as error:
            guard.restore()
            optimizer.zero_grad(set_to_none=True)
            raise NonFiniteError(
                f"Step {step} (epoch {epoch}): {error} The weights have not moved since step {step - 1}, the last "
                "good one; they are in this error's `model`. A smaller `lr`, or a `cap` where the loss is unbounded, "
                "usually helps.",
                step,
                self.model,
            ) from error
        return {"step": step, "epoch": epoch, "lr": rate, **agreement.numbers()}
