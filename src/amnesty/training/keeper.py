"""What a loop saves while it runs, and gets back when the run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch.optim import Optimizer

from amnesty.errors import CheckpointError, InterruptedRunError
from amnesty.training.identity import differences
from amnesty.training.shelf import Entry, Shelf

KEPT = 2
"""Checkpoints of steps that are kept: the newest, and one to fall back on."""


class Keeper:
    """Saves the phases of a method, one for each call of `Loop.run`, and gives back those of an earlier sitting.

    A method is ordinary code between the phases. When a run goes on, this code runs again, with the same seed from
    the same model; phases that had ended are not run again, but end as they had; the phase that was under way goes on
    after its last step that was saved.

    Args:
        shelf: where to, locked. run: what the run is; see `amnesty.training.identity`.
        steps, minutes: how often steps are saved; ``None`` is never.
        stop: asked after every step. tell: gets what should be known.

    Attributes:
        phase: number of the phase under way or the last one, from 1; 0 before the first.
        device: of the model.
        told: lines of the history that an earlier sitting has told.
        resumed_after: lines of the history with which later sittings began.
        notes: what was told.
    """

    def __init__(
        self,
        shelf: Shelf,
        run: Mapping[str, Any],
        device: torch.device,
        *,
        steps: int | None,
        minutes: float | None,
        stop: Callable[[], bool],
        tell: Callable[[str], object],
    ) -> None:
        self.device, self.phase, self.told = device, 0, 0
        self.notes: list[str] = []
        self.resumed_after: list[int] = []
        self._shelf, self._run, self._stop, self._tell = shelf, run, stop, tell
        self._every, self._period = steps, None if minutes is None else 60 * minutes
        self._seen: WeakSet[Optimizer] = WeakSet()
        self._ended: list[Entry] = []
        self._under_way: Entry | None = None
        self._steps: list[Entry] = []
        self._before, self._begun = 0.0, time.perf_counter()
        self._since, self._saved = 0, self._begun

    @property
    def seconds(self) -> float:
        """Wall-clock time of this sitting, and of those before up to what they saved."""
        return self._before + time.perf_counter() - self._begun

    def tell(self, text: str) -> None:
        """Tell the caller, and remember it."""
        self.notes.append(text)
        self._tell(text)

    # When a run begins or goes on.

    def find(self) -> None:
        """Look for the newest checkpoint that is whole, and remove what is of no use.

        Raises:
            CheckpointError: the checkpoints are of another run.
        """
        self._shelf.sweep()
        whole = [entry for entry in self._shelf.entries() if not self._is_damaged(entry)]
        for entry in whole:
            other = differences(entry.about["run"], self._run)
            if other:
                raise CheckpointError(
                    f"The checkpoints in {self._shelf.folder} are of another run: {'; '.join(other)}. Go on with "
                    "that run's settings, model and data, or choose another folder."
                )
        self._choose(whole)
        for entry in self._shelf.entries():
            if entry not in self._ended and entry not in self._steps:
                self._shelf.remove(entry)
        last = self._under_way or (self._ended[-1] if self._ended else None)
        if last is None:
            if self.notes:
                self.tell("No checkpoint is whole: the run starts from the beginning.")
            return
        other = differences(last.about["run"], self._run, soft=True)
        if other:
            self.tell(
                f"The run goes on elsewhere than it began, and may end in slightly other bits: {'; '.join(other)}."
            )
        self._before, self.told = last.about["seconds"], last.about["step"]
        self.resumed_after = [*last.about["resumed_after"], self.told]

    def _is_damaged(self, entry: Entry) -> bool:
        fault = entry.damage()
        if fault:
            self.tell(f"The checkpoint {entry.path.name} is damaged and not used: {fault}.")
        return bool(fault)

    def _choose(self, whole: list[Entry]) -> None:
        ends = {entry.number: entry for entry in whole if entry.kind == "phase"}
        while len(self._ended) + 1 in ends:
            self._ended.append(ends[len(self._ended) + 1])
        last = len(self._ended) + 1  # a later phase cannot be reached without the ends of all before
        self._steps = [entry for entry in whole if entry.kind == "step" and entry.about["phase"] <= last]
        here = [entry for entry in self._steps if entry.about["phase"] == last]
        self._under_way = here[-1] if here else None

    # Phases.

    def enter(self, plan: Mapping[str, Any]) -> tuple[bool, Any] | None:
        """Begin a phase; return what was saved of it: whether it had ended, and the state; ``None`` if nothing was.

        Args:
            plan: what is known before the first step: ``"model"``, a hash of the weights; players, steps and so on.

        Raises:
            CheckpointError: the phase is not the one that was saved.
        """
        self.phase += 1
        ended = self.phase <= len(self._ended)
        entry = self._ended[self.phase - 1] if ended else self._under_way
        if entry is None:
            return None
        if not ended:
            self._under_way = None
        before = entry.about["plan"]
        other = sorted(key for key in plan if before[key] != plan[key])
        if set(other) - {"model"}:
            raise CheckpointError(
                f"Phase {self.phase} of the method is not the one that was saved ({', '.join(other)} differ): what "
                "the method does must follow from its settings, the seed, the model and the data alone. Run it anew."
            )
        if other:
            self.tell(
                f"Before phase {self.phase} the weights were not to the bit what they had been: what the method "
                "computes there is not reproducible here. The run goes on, but what it ends in may differ slightly."
            )
        return ended, entry.read(self.device)

    def check_optimizer(self, optimizer: Optimizer, lasts: bool) -> None:
        """Raise `CheckpointError` if an optimiser is used in a second phase that nobody said would last."""
        if optimizer in self._seen and not lasts:
            raise CheckpointError(
                "An optimiser is used in several calls of `Loop.run`; how each of them leaves it is saved only if "
                "its maker says so. Make it with `amnesty.training.phases.lasting`."
            )
        self._seen.add(optimizer)

    def stepped(self, step: int, plan: Mapping[str, Any], state: Callable[[], Any]) -> None:
        """Save ``state()`` if it is time to, after step ``step``, and stop if asked to.

        Raises:
            InterruptedRunError: a stop was asked for; the step is saved.
            CheckpointWriteError: it could not be.
        """
        self._since += 1
        asked = self._stop()
        due = self._every is not None and self._since >= self._every
        late = self._period is not None and time.perf_counter() - self._saved >= self._period
        if asked or due or late:
            self._steps.append(self._write("step", step, step, plan, state()))
            while len(self._steps) > KEPT:
                self._shelf.remove(self._steps.pop(0))
        if asked:
            raise InterruptedRunError(
                f"Stopped after step {step}, as asked; the run is saved in {self._shelf.folder}. Go on with "
                "`resume=True` (`--resume`).",
                step,
                self._shelf.folder,
            )

    def leave(self, step: int, plan: Mapping[str, Any], state: Any) -> None:
        """Save how the phase ended, after step ``step``."""
        self._ended.append(self._write("phase", self.phase, step, plan, state))

    def _write(self, kind: Any, number: int, step: int, plan: Mapping[str, Any], state: Any) -> Entry:
        about = {
            "run": dict(self._run),
            "phase": self.phase,
            "step": step,
            "plan": dict(plan),
            "seconds": self.seconds,
            "resumed_after": self.resumed_after,
        }
        entry = self._shelf.write(kind, number, about, state)
        self._since, self._saved = 0, time.perf_counter()
        return entry
