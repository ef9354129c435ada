"""A deletion request from beginning to end: unlearn, score, record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amnesty.errors import InterruptedRunError
from amnesty.evaluation import Scores, check_parquet
from amnesty.files import write_json_lines
from amnesty.reports import check_extra, write_request_report
from amnesty.requests.audit import write_audit
from amnesty.requests.digests import HISTORY
from amnesty.requests.facts import audit_facts, run_facts, scores_document
from amnesty.requests.forgotten import write_forgotten
from amnesty.requests.prepared import Prepared, Tell
from amnesty.requests.run_folder import RunFolder
from amnesty.requests.signing import sign
from amnesty.requests.tracking import Tracking, folder_of_trackers, tracking
from amnesty.studies.runs import write_scores
from amnesty.training import Checkpoints, Stop, Watch, progress_bar, stop_on_signals
from amnesty.unlearning import Outcome, unlearn

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run left.

    Attributes:
        folder: of the run.
        facts: as run.json has them.
        scores: by model: ``"original"``, the method's name, and ``"reference"`` where there is one.
    """

    folder: Path
    facts: Mapping[str, Any]
    scores: Mapping[str, Scores]


@contextmanager
def supervised(title: str, console: Console) -> Iterator[tuple[Watch, Stop]]:
    """Draw a bar on ``console``, and let SIGINT and SIGTERM ask for a stop; give what `run` takes for both."""
    with stop_on_signals() as stop, progress_bar(title, console) as watch:
        yield watch, stop


def check_packages() -> None:
    """Raise `MissingExtraError` unless everything that writes a run's folder is installed."""
    check_extra()
    check_parquet()


def run(
    prepared: Prepared,
    *,
    resume: bool = False,
    tell: Tell = lambda word: None,
    watch: Watch | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Unlearn what was prepared, and leave a folder with the model, its scores, a page for people and a record.

    Args:
        prepared: see `amnesty.requests.preparing.prepare`.
        resume: go on with the run in the folder, to the same bits; where there is none, begin.
        tell: gets a word on each thing that takes time.
        watch: called after every step.
        stop: asked after every step and before the result is written; where it says True, the run stops, to be gone
            on with. See `amnesty.training.stop_on_signals`.

    Raises:
        RunFolderError: the folder is taken, in use, of another request, or there is no room.
        InterruptedRunError: ``stop`` asked for it; the run is saved.
        NonFiniteError: a loss or a gradient is no longer finite.
        CheckpointError, CheckpointWriteError: a checkpoint cannot be read or written.
        OSError: a file cannot be written; whatever is there is whole, and ``resume`` goes on.
    """
    request = prepared.request
    folder = RunFolder(request.out, request)
    check_packages()
    folder.check(resume)
    folder.check_room(prepared.room, prepared.copied)
    with folder.taken(resume) as sitting:
        outcome, scores, warnings = _unlearned(prepared, folder, tell, watch, stop)
        tell("Writing the result")
        rechecked = prepared.rechecked(outcome)
        facts = run_facts(prepared, outcome, sitting, rechecked, warnings)
        _write(prepared, folder.path, outcome, scores)
        write_request_report(folder.path, facts)
        write_audit(folder.path, audit_facts(prepared, outcome, scores, facts, rechecked))
        if request.sign is not None:
            sign(folder.path, request.sign)
        folder.finish()
    return Result(folder=folder.path, facts=facts, scores=scores)


def _unlearned(
    prepared: Prepared, folder: RunFolder, tell: Tell, watch: Watch | None, stop: Callable[[], bool]
) -> tuple[Outcome, dict[str, Scores], list[str]]:
    """Return what unlearning left, the scores of all models, and what a reader of them should know."""
    request = prepared.request
    checkpoints = Checkpoints(
        folder.checkpoint,
        steps=request.checkpoint.steps,
        minutes=request.checkpoint.minutes,
        resume=True,
        stop=stop,
        tell=lambda note: None,  # the outcome has them all
    )
    with _tracking(prepared, folder.path) as tracked:
        tell("Unlearning")
        with prepared.aside(folder.original) as let_go:
            outcome = unlearn(
                prepared.task,
                request.method,
                seed=request.seed,
                precision=request.precision,
                workers=request.workers,
                progress=_each(watch, tracked, lambda record, total: let_go()),
                checkpoints=checkpoints,
            )
        _stop_here(stop, outcome, folder)
        tell("Taking the scores")
        scores = prepared.scored(outcome, folder=folder.scoring, stop=stop)
        _stop_here(stop, outcome, folder)
        tracked.scores({name: one.own for name, one in scores.items()})
    return outcome, scores, [*outcome.notes, *tracked.warnings]


def _stop_here(stop: Callable[[], bool], outcome: Outcome, folder: RunFolder) -> None:
    if stop():
        step = len(outcome.history)
        raise InterruptedRunError(f"Stopped after step {step}, the last one, as asked.", step, folder.checkpoint)


def _tracking(prepared: Prepared, out: Path) -> AbstractContextManager[Tracking]:
    request = prepared.request
    # What goes to a tracker may leave the machine: never what is to be forgotten.
    config = {"method": request.document["method"], "seed": request.seed, "precision": request.precision}
    return tracking(request.trackers, folder_of_trackers(out), request.name, config)


def _each(*watches: Watch | None) -> Watch:
    def watch(record: dict[str, Any], total: int) -> None:
        for one in watches:
            if one is not None:
                one(record, total)

    return watch


def _write(prepared: Prepared, folder: Path, outcome: Outcome, scores: Mapping[str, Scores]) -> None:
    """Write everything but the page, the record and the signature, which read the rest."""
    prepared.loaded.save(folder, outcome.model)
    write_json_lines(folder / HISTORY, outcome.history)
    write_forgotten(folder, prepared.forgotten, prepared.earlier.forgotten)
    prepared.write_beside(folder, outcome, scores)
    write_scores(folder, scores_document(prepared, scores), scores)
