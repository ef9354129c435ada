"""The loop that every iterative method runs: pair batches, bargain, step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import nn

from amnesty.bargaining import Lookahead, Rule, Sum
from amnesty.data import Batches, Pairing, pair, steps
from amnesty.errors import PrecisionError
from amnesty.seeds import generator
from amnesty.tasks import Role, Source
from amnesty.training.batchnorm import BatchNormPolicy
from amnesty.training.hooks import Hook
from amnesty.training.keeper import Keeper
from amnesty.training.masks import FrozenCoordinates, Masks, both
from amnesty.training.phase import Phase
from amnesty.training.phases import Lasting
from amnesty.training.planning import BESIDE, check_run, joined, passes_of
from amnesty.training.progress import Record, Watch
from amnesty.training.schedules import Factor, Schedule
from amnesty.training.stepper import MakeOptimizer, Stepper, check_weights

PRECISIONS = ("float32", "bfloat16")


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
        masks: coordinates that may move in the whole run; the others keep the values that they have when the loop is
            made, whatever happens to the model in between. See `hold`.
        history: one record a step, over all calls of `run`; see `Record`.
        epochs: passes made so far, over all calls of `run`; every pass has a data order of its own.
        keeper: saves the run, and knows where an earlier sitting left it; see `amnesty.training.Checkpoints`.
        labels: name of a player -> generator of its labels and noise.
    """

    model: nn.Module
    parts: Mapping[str, Source]
    seed: int = 0
    precision: str = "float32"
    workers: int = 0
    watch: Watch | None = None
    masks: Masks = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)
    epochs: int = 0
    keeper: Keeper | None = None
    labels: dict[str, torch.Generator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise PrecisionError(f"`precision` must be one of {', '.join(PRECISIONS)}, found {self.precision!r}.")
        self._frozen = FrozenCoordinates(self.model, self.masks)

    def run(
        self,
        players: Mapping[str, Role],
        *,
        optimizer: MakeOptimizer,
        epochs: int,
        at_least: int = 0,
        last_pass: float = 1.0,
        rule: Rule | None = None,
        alone: Rule | None = None,
        retaining: tuple[str, ...] = ("retain",),
        lookahead: Mapping[str, Lookahead] | None = None,
        during: Mapping[str, int] | None = None,
        batch_size: int | Mapping[str, int] = 256,
        pairing: Pairing = "cycle_forget",
        schedule: Schedule | Factor = "constant",
        batch_norm: BatchNormPolicy = "train",
        masks: Masks | None = None,
        max_norm: float | None = None,
        hooks: Sequence[Hook] = (),
        parts: Mapping[str, Source] | None = None,
    ) -> None:
        """Run ``epochs`` passes of steps.

        Args:
            players: name -> role, in the order of the rule's axes; the last one leads the pairing.
            optimizer: see `MakeOptimizer`.
            epochs: passes over the leader's data.
            at_least: steps that the run has at least; more passes are made where there is little data.
            last_pass: share of its steps that the last pass makes, at least one of them.
            rule: how the players' gradients become one update; their sum by default.
            alone: the rule of steps at which a single player has a batch, while others exist; a plain step
                by default.
            retaining: names of the players whose batches may move batch-norm statistics under
                ``"retain_stats"``, and who move alone where no agreement exists.
            lookahead: name of a player -> how it looks past another's step; see `Lookahead`.
            during: name of a player -> number of first passes in which it takes part; in all by default.
            batch_size: of every player, or one for each by name.
            pairing: see `amnesty.data.pair`.
            schedule: see `Schedule` and `Factor`.
            batch_norm: see `BatchNormPolicy`.
            masks: see `Masks`; held exactly, beside those of the loop.
            max_norm: clip the update to this length.
            hooks: see `Hook`.
            parts: further parts of the data, for this run.

        Raises:
            InvalidInputError: a setting is unknown or out of range, or a player needs a part of the data
                that was not given.
            NonFiniteError: a loss, a gradient or a rule's weight is not finite: nothing has moved since the
                step before, and the error holds the model as that step left it. Or a weight of the model is
                not finite: found after the last step, or where a loss is not finite for that reason.
        """
        parts = {**self.parts, **(parts or {})}
        check_run(players, parts, epochs, last_pass, schedule, batch_norm, pairing, during or {})
        sizes = batch_size if isinstance(batch_size, Mapping) else dict.fromkeys(players, batch_size)
        streams = self._streams(players, parts, sizes)
        plan = passes_of(streams, pairing, epochs, at_least, during or {})
        stepper = Stepper(
            self.model,
            players,
            rule=rule or Sum(),
            alone=alone or Sum(),
            retaining=retaining,
            lookahead=lookahead or {},
            masks=both(masks or {}, self.masks),
            frozen=self._frozen,
            max_norm=max_norm,
            hooks=hooks,
            labels=self._generators(players),
            seed=self.seed,
            half=self.precision == "bfloat16",
        )
        counts = [steps(active, pairing) for active in plan]
        counts[-1] = max(1, round(last_pass * counts[-1]))
        count = sum(counts)
        stepper.start(optimizer, schedule, count, batch_norm)
        if self.keeper is not None:
            self.keeper.check_optimizer(stepper.optimizer, isinstance(optimizer, Lasting))
        self._passes(stepper, plan, counts, pairing, Phase(self, stepper, count, isinstance(optimizer, Lasting)))

    def _passes(
        self,
        stepper: Stepper,
        plan: Sequence[Mapping[str, Batches]],
        counts: Sequence[int],
        pairing: Pairing,
        phase: Phase,
    ) -> None:
        total = len(self.history) + sum(counts)
        begun, made = phase.enter()  # the pass under way, and its steps that an earlier sitting made
        for epoch, active in enumerate(plan[begun - 1 :], start=begun):
            if not made:
                self.epochs += 1
                stepper.call("start_epoch", epoch)
            for batches in islice(pair(active, pairing, self.epochs, made), counts[epoch - 1] - made):
                self.history.append(stepper.step(joined(batches), len(self.history) + 1, self.epochs))
                if self.watch is not None:
                    self.watch(self.history[-1], total)
                made += 1
                phase.stepped(epoch, made)
            stepper.call("end_epoch", epoch)
            made = 0
        check_weights(self.model, len(self.history))
        phase.leave()

    def replace(self, model: nn.Module) -> None:
        """Go on with another model of the same parameters, to which the loop's masks apply too."""
        self.model, self._frozen = model, FrozenCoordinates(model, self.masks, self._frozen.values)
        self._frozen.restore()

    def hold(self, masks: Masks) -> None:
        """Hold further coordinates, at what they are now, for the rest of the run; see `Masks`."""
        self._frozen.restore()
        self.masks = both(self.masks, masks)
        self._frozen = FrozenCoordinates(self.model, self.masks)

    def settle(self) -> None:
        """Put back what the loop's masks hold; for whoever changed the model without `run`."""
        self._frozen.restore()

    def note(self, **facts: float) -> None:
        """Add a record of something done to the model outside `run`, such as a one-shot edit."""
        self.history.append({"step": len(self.history) + 1, "epoch": self.epochs, **facts})
        told = 0 if self.keeper is None else self.keeper.told
        if self.watch is not None and len(self.history) > told:
            self.watch(self.history[-1], len(self.history))

    def _streams(
        self, players: Mapping[str, Role], parts: Mapping[str, Source], sizes: Mapping[str, int]
    ) -> dict[str, Batches]:
        streams = {}
        for name, role in players.items():
            if role.beside is not None:
                other = name + BESIDE
                streams[other] = Batches(parts[role.beside], sizes[name], self.seed, other, self.workers)
            streams[name] = Batches(parts[role.part], sizes[name], self.seed, name, self.workers)
        return streams

    def _generators(self, players: Mapping[str, Role]) -> Mapping[str, torch.Generator]:
        for name in players:  # kept over calls of `run`, so that a later phase draws other labels
            self.labels.setdefault(name, generator(self.seed, "labels", name))
        return self.labels
