"""The loop that every iterative method runs: pair batches, bargain, step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import nn

from amnesty.bargaining import Lookahead, Rule, Sum
from amnesty.data import Batches, Pairing, pair, steps
from amnesty.errors import InvalidInputError, PrecisionError
from amnesty.seeds import generator
from amnesty.tasks import Role, Source
from amnesty.training.batchnorm import BATCH_NORM_POLICIES, BatchNormPolicy
from amnesty.training.hooks import Hook
from amnesty.training.masks import FrozenCoordinates, Masks, both
from amnesty.training.progress import Record, Watch
from amnesty.training.schedules import SCHEDULES, Factor, Schedule
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

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise PrecisionError(f"`precision` must be one of {', '.join(PRECISIONS)}, found {self.precision!r}.")
        self._frozen = FrozenCoordinates(self.model, self.masks)
        self._labels: dict[str, torch.Generator] = {}

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
        _check(players, parts, epochs, last_pass, schedule, batch_norm, pairing, during or {})
        sizes = batch_size if isinstance(batch_size, Mapping) else dict.fromkeys(players, batch_size)
        streams = self._streams(players, parts, sizes)
        plan = _plan(streams, pairing, epochs, at_least, during or {})
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
        total = len(self.history) + count
        for epoch, active in enumerate(plan, start=1):
            self.epochs += 1
            stepper.call("start_epoch", epoch)
            for batches in islice(pair(active, pairing, self.epochs), counts[epoch - 1]):
                self.history.append(stepper.step(_joined(batches), len(self.history) + 1, self.epochs))
                if self.watch is not None:
                    self.watch(self.history[-1], total)
            stepper.call("end_epoch", epoch)
        check_weights(self.model, len(self.history))

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
        if self.watch is not None:
            self.watch(self.history[-1], len(self.history))

    def _streams(
        self, players: Mapping[str, Role], parts: Mapping[str, Source], sizes: Mapping[str, int]
    ) -> dict[str, Batches]:
        streams = {}
        for name, role in players.items():
            if role.beside is not None:
                other = name + _BESIDE
                streams[other] = Batches(parts[role.beside], sizes[name], self.seed, other, self.workers)
            streams[name] = Batches(parts[role.part], sizes[name], self.seed, name, self.workers)
        return streams

    def _generators(self, players: Mapping[str, Role]) -> Mapping[str, torch.Generator]:
        for name in players:  # kept over calls of `run`, so that a later phase draws other labels
            self._labels.setdefault(name, generator(self.seed, "labels", name))
        return self._labels


_BESIDE = " (beside)"


def _joined(batches: Mapping[str, Any]) -> dict[str, Any]:
    """Give players that see two parts their two batches."""
    return {
        name: (batch, batches[name + _BESIDE]) if name + _BESIDE in batches else batch
        for name, batch in batches.items()
        if not name.endswith(_BESIDE)
    }


def _plan(
    streams: Mapping[str, Batches], pairing: Pairing, epochs: int, at_least: int, during: Mapping[str, int]
) -> list[dict[str, Batches]]:
    """Return the streams of each pass."""

    def passes() -> Iterator[dict[str, Batches]]:
        count = done = 0
        while count < epochs or done < at_least:
            count += 1
            active = {n: s for n, s in streams.items() if count <= during.get(n.removesuffix(_BESIDE), count)}
            done += steps(active, pairing)
            yield active

    return list(passes())


def _check(
    players: Mapping[str, Role],
    parts: Mapping[str, Source],
    epochs: int,
    last_pass: float,
    schedule: Any,
    batch_norm: str,
    pairing: str,
    during: Mapping[str, int],
) -> None:
    faults = []
    if epochs < 1:
        faults.append(f"`epochs` must be at least 1, found {epochs}")
    if not 0 < last_pass <= 1:
        faults.append(f"`last_pass` must be in (0, 1], found {last_pass}")
    if not callable(schedule) and schedule not in SCHEDULES:
        faults.append(f"`schedule` must be one of {', '.join(SCHEDULES)} or a function, found {schedule!r}")
    if batch_norm not in BATCH_NORM_POLICIES:
        faults.append(f"`batch_norm` must be one of {', '.join(BATCH_NORM_POLICIES)}, found {batch_norm!r}")
    for name, role in players.items():
        for part in filter(None, (role.part, role.beside)):
            if part not in parts:
                faults.append(f"player {name!r} needs the {part} set, which was not given")
        if role.beside is not None and pairing in ("sequential", "retain_tail"):
            faults.append(f"player {name!r} sees two parts at once, which `pairing` {pairing!r} keeps apart")
    faults += [f"`during` names {name!r}, who does not play" for name in during if name not in players]
    if faults:
        raise InvalidInputError(f"{'; '.join(faults)}.")
