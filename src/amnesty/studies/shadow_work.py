"""The work on shadow models: one of them at a time, several processes at a time, or many in a stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from amnesty.data import Batches
from amnesty.errors import AmnestyError
from amnesty.methods import Method
from amnesty.seeds import derive, seeded
from amnesty.studies.digits import Tell, one_thread
from amnesty.studies.shadow_design import Design
from amnesty.studies.shadow_store import ShadowAnswers, Store
from amnesty.tasks import Classification, unpack
from amnesty.tasks.labelled import predict
from amnesty.tasks.margins import margins
from amnesty.training import Recipe, train
from amnesty.training.stacked import equally_long, train_stacked
from amnesty.unlearning import unlearn

_CHUNK = 32  # models in a stack; fixed, since rounding may depend on it
_EACH = 4  # models in a worker's task, at most


class ShadowError(AmnestyError, RuntimeError):
    """A shadow model failed; the message says which one and why. Those that were ready are kept."""


@dataclass(frozen=True)
class Stage:
    """One kind of model: name of its folder, name of its seeds, and the method, unless it is trained."""

    folder: str
    key: str
    method: Method | None = None

    @property
    def keeps_weights(self) -> bool:
        """Say whether weights are stored beside the answers."""
        return self.method is None


@dataclass(frozen=True)
class Job:
    """All that a worker needs to make any model of a pool; see `amnesty.studies.shadows.ShadowPool`."""

    store: Store
    design: Design
    data: Dataset[Any]
    evaluated: Dataset[Any] | None
    validation: Dataset[Any] | None
    fresh: Callable[[], nn.Module]
    recipe: Recipe
    seed: int

    def new_model(self) -> nn.Module:
        """Return an untrained model, the same each time, whatever ``fresh`` draws."""
        with seeded(derive(self.seed, "fresh"), torch.device("cpu")):
            return self.fresh()

    def seed_of(self, stage: Stage, shadow: int) -> int:
        """Return the seed of one model; methods that differ in settings only share it."""
        return derive(self.seed, "shadow", shadow, stage.key)

    def members(self, stage: Stage, shadow: int) -> np.ndarray:
        """Return the indices that a model of a trained stage learns."""
        learnt = self.design.retained if stage.key == "retrained" else self.design.trained
        return np.flatnonzero(learnt[shadow])

    def missing(self, stage: Stage) -> list[int]:
        """Return the shadows of a stage that are not stored yet."""
        return [s for s in range(len(self.design.groups)) if not self.store.has(stage.folder, s, stage.keeps_weights)]

    def make(self, stage: Stage, shadow: int, device: torch.device) -> None:
        """Train or unlearn one model and store what is kept of it."""
        seed = self.seed_of(stage, shadow)
        if stage.method is not None:
            outcome = unlearn(self._task(shadow, device), stage.method, seed=seed)
            self.keep(stage, shadow, outcome.model, outcome.seconds)
            return
        start = time.perf_counter()
        own = Subset(self.data, self.members(stage, shadow).tolist())
        model = train(self.new_model().to(device), own, self.recipe, seed=seed)
        self.keep(stage, shadow, model, time.perf_counter() - start)

    def keep(self, stage: Stage, shadow: int, model: nn.Module, seconds: float) -> None:
        """Ask a model about every example and store the answers."""
        said = [predict(model, source) for source in (self.data, self.evaluated) if source is not None]
        found = np.concatenate([margins(one.logits.double(), one.labels).numpy() for one in said])
        correct = np.concatenate([(one.logits.argmax(dim=1) == one.labels).numpy() for one in said])
        answers = ShadowAnswers(found.astype(np.float32), correct, np.array(seconds))
        self.store.write(stage.folder, shadow, answers, model if stage.keeps_weights else None)

    def _task(self, shadow: int, device: torch.device) -> Classification:
        forget, retain = (
            Subset(self.data, np.flatnonzero(part[shadow]).tolist())
            for part in (self.design.forgotten, self.design.retained)
        )
        original = self.store.load("original", shadow, self.new_model()).to(device)
        # Duplicates of targets were refused when the pool was made.
        return Classification(original, forget=forget, retain=retain, validation=self.validation, duplicates="keep")


def one_by_one(job: Job, stage: Stage, shadows: Sequence[int], device: torch.device) -> int:
    """Make models, each on one thread, and return how many.

    Raises:
        ShadowError: one failed; it is named.
    """
    with one_thread():
        for shadow in shadows:
            try:
                job.make(stage, shadow, device)
            except Exception as error:  # whatever a method or a model may raise
                raise ShadowError(f"Shadow {shadow} ({stage.folder}): {type(error).__name__}: {error}") from error
    return len(shadows)


def in_processes(
    job: Job, stage: Stage, shadows: Sequence[int], workers: int, tell: Tell, device: torch.device
) -> None:
    """Make models in several processes at a time, in this one for a single worker. Raises as `one_by_one` does."""
    import joblib

    each = max(1, min(_EACH, len(shadows) // (4 * workers)))
    tasks = [shadows[start : start + each] for start in range(0, len(shadows), each)]
    done = len(job.design.groups) - len(shadows)
    if workers == 1 or len(tasks) == 1:
        ready = (one_by_one(job, stage, task, device) for task in tasks)
    else:
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", inner_max_num_threads=1)
        ready = parallel(joblib.delayed(one_by_one)(job, stage, task, device) for task in tasks)
    for count in ready:
        done += count
        tell(f"{stage.folder}: {done} of {len(job.design.groups)} models")


def in_stacks(job: Job, stage: Stage, shadows: Sequence[int], device: torch.device, tell: Tell) -> None:
    """Train models many at a time; see `train_stacked`.

    A stack of which some are missing is trained as a whole, so that its numbers are those of an uninterrupted run.

    Raises:
        ShadowError: one failed.
    """
    inputs, labels = _read(job.data)
    model = job.new_model().to(device)
    members = [job.members(stage, s) for s in range(len(job.design.groups))]
    done = len(members) - len(shadows)
    for group in equally_long([len(own) for own in members], _CHUNK):
        wanted = sorted(set(group) & set(shadows))
        if not wanted:
            continue
        start = time.perf_counter()
        try:
            own, seeds = [members[s] for s in group], [job.seed_of(stage, s) for s in group]
            models = train_stacked(model, inputs, labels, own, job.recipe, seeds=seeds, chunk=_CHUNK)
        except AmnestyError as error:
            names = ", ".join(map(str, group))
            raise ShadowError(f"Shadows {names} ({stage.folder}), as models 0, 1, ... of a stack: {error}") from error
        seconds = (time.perf_counter() - start) / len(group)
        for shadow in wanted:
            job.keep(stage, shadow, models[group.index(shadow)], seconds)
        done += len(wanted)
        tell(f"{stage.folder}: {done} of {len(members)} models")


def _read(data: Dataset[Any]) -> tuple[Tensor, Tensor]:
    batches = [unpack(batch) for batch in Batches(data, 512).iterate()]
    return torch.cat([inputs for inputs, _ in batches]), torch.cat([labels for _, labels in batches])
