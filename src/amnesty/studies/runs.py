"""The folder of a run: its scores, every model's answers example by example, and the models themselves."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from amnesty.data import Canaries
from amnesty.errors import AmnestyError, DataError
from amnesty.evaluation import ALSO, Also, Answers, Evaluator, Scores, read_answers, rescored, write_answers
from amnesty.evaluation.measures import MEASURES, base, beyond_answers
from amnesty.files import write_json
from amnesty.studies.run_checks import ORIGINAL, check_answers, check_same_data, checked_document
from amnesty.tasks import Classification
from amnesty.weights import load_weights, save_weights

SCORES, ANSWERS, MODELS, AUDIT = "scores.json", "answers.parquet", "models", "audit.json"


def write_run(
    folder: Path, document: Mapping[str, Any], scores: Mapping[str, Scores], models: Mapping[str, nn.Module]
) -> None:
    """Write a run's models, answers and scores; the scores last, so that a folder that has them is complete.

    Args:
        folder: where to.
        document: what stands in scores.json beside the methods.
        scores: name of a model -> its scores; ``"original"`` is the model before unlearning.
        models: name -> model; their weights go to ``models/<name>.safetensors``.
    """
    (folder / MODELS).mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        save_weights(folder / MODELS / f"{name}.safetensors", model)
    write_answers(folder / ANSWERS, {name: found.answers for name, found in scores.items() if found.answers})
    write_scores(folder, document, scores)


def write_scores(folder: Path, document: Mapping[str, Any], scores: Mapping[str, Scores]) -> None:
    """Write scores.json: ``document``, and each method's own numbers. Those beside them stand in other rows."""
    write_json(folder / SCORES, {**document, "methods": _own(scores)})


def check_scores(folder: Path, document: Mapping[str, Any], scores: Mapping[str, Scores]) -> None:
    """Raise `DataError` if `write_scores` would change scores.json."""
    recorded = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    found = {**document, "methods": _own(scores)}
    if found == recorded:
        return
    changed = sorted(
        f"{name}/{key}"
        for name in found["methods"].keys() | recorded["methods"].keys()
        for key in _differing(found["methods"].get(name, {}), recorded["methods"].get(name, {}))
    )
    raise DataError(
        f"{folder}: taken again, {len(changed)} numbers such as {changed[0]} are not what {SCORES} holds, and the "
        f"folder is audited: nothing was written. Another version of Amnesty or other libraries may round otherwise; "
        "`amnesty verify` tells whether anything was changed."
    )


def _own(scores: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    return {name: found.own for name, found in scores.items()}


def _differing(first: Mapping[str, float], second: Mapping[str, float]) -> list[str]:
    return [key for key in first.keys() | second.keys() if first.get(key) != second.get(key)]


@dataclass(frozen=True)
class Run:
    """A run's folder as read: scores.json as it is, and the answers by model and part."""

    folder: Path
    document: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The models that were scored."""
        return tuple(self.document["methods"])

    @property
    def seed(self) -> int:
        """Of the draws of the tests."""
        return int(self.document.get("seed") or 0)

    @property
    def audited(self) -> bool:
        """Whether a record holds the hashes of the folder's files, which therefore must not change."""
        return (self.folder / AUDIT).exists()

    @property
    def scenario(self) -> Mapping[str, Any]:
        """What scores.json says of the request; empty where it says nothing."""
        return self.document.get("scenario") or {}


def read_run(folder: Path) -> Run:
    """Read a run's scores.json.

    Raises:
        DataError: it is missing or not of a run.
    """
    path = folder / SCORES
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except RecursionError as error:
        raise DataError(f"{path}: not a file of Amnesty (nested too deeply).") from error
    return Run(folder, checked_document(path, content))


def stored_answers(run: Run) -> dict[str, dict[str, Answers]] | None:
    """Return a run's stored answers by model and part; ``None`` where there is no such file.

    Raises:
        DataError: the file cannot be read, or its models were not asked about the same examples.
    """
    path = run.folder / ANSWERS
    if not path.is_file():
        return None
    try:
        answers = read_answers(path)
    except AmnestyError:
        raise
    except Exception as error:  # columns of types that nobody thought of
        raise DataError(f"{path} was not written by Amnesty: {type(error).__name__}: {error}") from error
    check_answers(path, answers)
    return answers


def rescore(run: Run) -> dict[str, Scores]:
    """Take every measure again from the stored answers; what answers cannot tell stays as it was recorded.

    So do all numbers of a method without answers.

    Raises:
        DataError: there are no stored answers, or they lack those of the original, the reference or the floor.
    """
    answers = stored_answers(run)
    if answers is None:
        raise DataError(f"{run.folder} holds no {ANSWERS}: there is nothing to compute scores from.")
    reference, floor = (run.document.get(side) for side in ("reference", "floor"))
    for name in (reference, floor):
        if name is not None and name not in answers:
            raise DataError(
                f"{run.folder / ANSWERS} lacks the answers of {name!r}, which the others are compared with."
            )
    recorded: Mapping[str, Mapping[str, float]] = run.document["methods"]
    forgotten = run.document.get("forgotten_classes", ())
    found = rescored(answers, recorded, reference=reference, floor=floor, forgotten=forgotten, seed=run.seed)
    return {name: found[name] if name in found else Scores(recorded[name]) for name in {**recorded, **found}}


def reevaluate(
    run: Run, task: Classification, also: Iterable[Also] = ALSO, canaries: Canaries | None = None
) -> dict[str, Scores]:
    """Ask the run's stored models again, on a task that was made anew.

    The task's model is given the weights of the run's original. Further measures that are not asked for stay as they
    were recorded; those that are do not, even where they could not be taken this time.

    Raises:
        DataError: the run holds no models; the task's data is not that of the run.
        InvalidInputError: the run was scored with canaries and none are given, or the other way round.
        ModelError: weights that do not fit.
    """
    paths = {name: _weights(run, name) for name in {ORIGINAL: None, **run.document["methods"]}}
    answers = stored_answers(run)
    stored = None if answers is None else answers[ORIGINAL]
    check_same_data(run.folder, stored, run.scenario.get("content") or {}, task, canaries)
    load_weights(paths[ORIGINAL], task.model)
    models = {name: _like(task.model, paths[name]) for name in run.names}
    recorded, wanted = run.document["methods"], frozenset(also)
    reference, floor = (models.get(run.document.get(side) or "") for side in ("reference", "floor"))
    evaluator = Evaluator(
        task,
        reference,
        second_reference=floor,
        canaries=canaries,
        also=wanted,
        reference_seconds=recorded.get(run.document.get("reference") or "", {}).get("seconds"),
        seed=run.seed,
    )
    found = {}
    for name, model in models.items():
        scores = evaluator.original if name == ORIGINAL else evaluator(model, seconds=recorded[name].get("seconds"))
        found[name] = Scores({**_kept(recorded[name], wanted), **scores}, scores.answers)
    return found


def _kept(recorded: Mapping[str, float], wanted: frozenset[str]) -> dict[str, float]:
    """Return the recorded numbers that a new measurement leaves alone."""
    found = beyond_answers(recorded).items()
    return {
        key: value for key, value in found if base(key) not in MEASURES or MEASURES[base(key)].needs not in wanted
    }


def _weights(run: Run, name: str) -> Path:
    path = run.folder / MODELS / f"{name}.safetensors"
    if not path.is_file():
        raise DataError(f"{run.folder} holds no weights of {name!r} ({path.name}): its models cannot be asked again.")
    return path


def _like(model: nn.Module, path: Path) -> nn.Module:
    other = copy.deepcopy(model)
    load_weights(path, other)
    return other.eval()
