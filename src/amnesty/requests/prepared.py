"""A request with everything that it names: what all domains have in common, for the run and for its record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from amnesty.evaluation import Scores
from amnesty.methods import METHODS
from amnesty.methods.negotiated import Negotiated
from amnesty.requests.audit import ModelFacts, PartFacts
from amnesty.requests.chain import Earlier
from amnesty.requests.forgotten import Forgotten
from amnesty.requests.loaded import LoadedModel
from amnesty.requests.rechecking import Rechecked
from amnesty.requests.request import BaseRequest
from amnesty.tasks import Task
from amnesty.unlearning import Outcome

REFERENCE = "reference"
"""The name of the retrained model among those that were scored."""

Tell = Callable[[str], object]
"""Gets a word on what is being done."""

Stopped = Callable[[], bool]
"""Says whether the run is to stop."""


def never() -> bool:
    """Say no."""
    return False


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared(ABC):
    """A request with everything that it names.

    Attributes:
        request: as it was read.
        loaded: the model as it was loaded; on the device of the run.
        task: model and data, checked.
        before: hashes of the model as it was read.
        earlier: what earlier requests on the same model forgot.
        warnings: what a reader of the result should know.
    """

    request: BaseRequest
    loaded: LoadedModel
    task: Task
    before: ModelFacts
    earlier: Earlier
    warnings: tuple[str, ...]

    @property
    def method(self) -> str:
        """The name of the method, as `amnesty methods` lists it."""
        return next(name for name, kind in METHODS.items() if type(self.request.method) is kind)

    @property
    def self_tuned(self) -> bool:
        """Whether the method chooses its step size and when to stop by itself."""
        method = self.request.method
        if not isinstance(method, Negotiated) or self.request.tuned:
            return False
        return method.lr is None and method.knows_the_end(self.task)

    # What is said of it.

    @property
    @abstractmethod
    def asked(self) -> str:
        """What is to be forgotten, in words."""

    @property
    @abstractmethod
    def data(self) -> str:
        """Where what is kept and forgotten comes from, in a word."""

    @property
    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """Number of examples by part."""

    @property
    @abstractmethod
    def parts_facts(self) -> Mapping[str, PartFacts]:
        """What a record says of each part of the data."""

    @property
    @abstractmethod
    def forgotten(self) -> Forgotten:
        """What is forgotten, by hash."""

    @property
    @abstractmethod
    def duplicates(self) -> Mapping[str, Any]:
        """What was found of copies, and what was done, as a record has it."""

    @property
    @abstractmethod
    def duplicate_counts(self) -> Mapping[str, Mapping[str, int]]:
        """Copies by part and kind; empty where none were searched for."""

    @property
    @abstractmethod
    def holdout_protocol(self) -> str:
        """Which examples stand for unseen ones, in words."""

    @property
    @abstractmethod
    def task_facts(self) -> Mapping[str, Any] | None:
        """What a record says of a task that is not classification."""

    @property
    def room(self) -> int:
        """How many bytes a copy of the model needs."""
        return sum(t.numel() * t.element_size() for t in self.task.model.state_dict().values())

    @property
    def copied(self) -> int:
        """How many bytes of files go with the result as they are."""
        return 0

    # What is done.

    def aside(self, path: Path) -> AbstractContextManager[Callable[[], None]]:
        """Keep the original in a file while a copy of it is trained, where it can be; see `set_aside`."""
        return nullcontext(lambda: None)

    @abstractmethod
    def scored(self, outcome: Outcome, *, folder: Path | None = None, stop: Stopped = never) -> dict[str, Scores]:
        """Score the original, the unlearned model and the reference, by name.

        Args:
            outcome: of the run.
            folder: for what takes long and need not be done again where scoring was stopped.
            stop: asked now and then.

        Raises:
            InterruptedRunError: ``stop`` asked for it.
        """

    @abstractmethod
    def rechecked(self, outcome: Outcome) -> tuple[Rechecked, ...]:
        """Ask whether what earlier requests forgot came back."""

    @abstractmethod
    def write_beside(self, folder: Path, outcome: Outcome, scores: Mapping[str, Scores]) -> None:
        """Write what only this domain has into the folder of the run."""

    @abstractmethod
    def changed(self, audit: Mapping[str, Any]) -> list[str]:
        """Name what is not what the record says it was."""

    @abstractmethod
    def scored_again(self, folder: Path) -> Mapping[str, float]:
        """Return the scores of the model that a run left in its folder."""

    @abstractmethod
    def read_again(self, folder: Path) -> nn.Module:
        """Return the model that a run left in its folder, as it is scored."""
