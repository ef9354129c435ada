"""What `amnesty evaluate` does: runs, weights, or the self-test; from folders and files to scores."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from amnesty.data import Canaries
from amnesty.errors import DataError, InvalidInputError, MissingReferenceError
from amnesty.evaluation import (
    ALSO,
    Also,
    Checked,
    Evaluator,
    Scores,
    check_parquet,
    self_test,
    write_answers,
)
from amnesty.studies import digits
from amnesty.studies.calling import canaries_at, task_at
from amnesty.studies.evaluate_options import refuse_options
from amnesty.studies.run_checks import ORIGINAL
from amnesty.studies.runs import ANSWERS, SCORES, Run, check_scores, read_run, reevaluate, rescore, write_scores
from amnesty.tasks import Classification
from amnesty.weights import load_weights

REFERENCE, FLOOR = digits.REFERENCE, digits.FLOOR

STUDIES: Mapping[str, Callable[[str, int], Classification]] = {"digits": digits.empty_task}
"""Name of a study, as in scores.json -> makes the task of one of its runs, with an untrained model."""


def find_runs(folders: Sequence[Path]) -> dict[str, list[Run]]:
    """Read the runs of folders, and of the folders directly below one that is no run itself, by scenario.

    Runs of the same scenario, from different folders, are seeds of one request.

    Raises:
        DataError, InvalidInputError: a folder holds no run; two runs of a scenario have the same seed.
    """
    found: dict[str, list[Run]] = {}
    for folder in folders:
        below = [folder] if (folder / SCORES).is_file() else sorted(p.parent for p in folder.glob(f"*/{SCORES}"))
        if not below:
            raise InvalidInputError(f"{folder} holds no run: there is no {SCORES} in it or directly below it.")
        for path in below:
            run = read_run(path)
            name = str(run.scenario.get("name") or path.resolve().name)
            known = found.setdefault(name, [])
            same = [other for other in known if other.seed == run.seed]
            if same:
                raise InvalidInputError(
                    f"{same[0].folder} and {path} are both of the scenario {name!r} and seed {run.seed}: the same "
                    "seed counted twice would look like more evidence."
                )
            known.append(run)
    return found


def evaluate_run(
    run: Run, also: Iterable[Also] = (), task: Classification | None = None, canaries: Canaries | None = None
) -> dict[str, Scores]:
    """Take a run's measures again and write its scores.json anew, and its answers where the models were asked.

    An audited folder stays as it is: its measures must come out as they are recorded.

    Args:
        run: as read.
        also: further measures, for which the stored models are asked again.
        task: of the run, to ask the models again; by default that of its study, where this is one of `STUDIES`.
        canaries: as planted before training, with which the models are asked again; needed for this if the run was
            scored with canaries.

    Raises:
        InvalidInputError: the models are needed and nobody knows the task, or the folder is audited.
        DataError, ModelError: see `amnesty.studies.runs`; nothing is written then.
    """
    wanted = frozenset(also)
    asked = task is not None or canaries is not None or bool(wanted)
    if asked and run.audited:
        raise InvalidInputError(
            f"{run.folder} is audited: its scores stay as they are. To measure more, name its weights and the "
            "function that makes the task: amnesty evaluate WEIGHTS --task package.module:function"
        )
    scores = reevaluate(run, task or _task_of(run), wanted, canaries) if asked else rescore(run)
    for name, found in scores.items():
        strange = [key for key, value in found.own.items() if not math.isfinite(value)]
        if strange:
            raise DataError(f"{run.folder}: the answers of {name!r} give no finite `{strange[0]}`.")
    if asked:
        write_answers(run.folder / ANSWERS, {name: found.answers for name, found in scores.items()})
    document = {key: value for key, value in run.document.items() if key != "methods"}
    if run.audited:
        check_scores(run.folder, document, scores)
    else:
        write_scores(run.folder, document, scores)
    return scores


def made_for(
    runs: Iterable[Run], task: str | None, canaries: str | None
) -> tuple[Classification | None, Canaries | None]:
    """Return the task and the canaries that functions of the user's make for a run; see `amnesty.studies.calling`.

    Raises:
        InvalidInputError: there are several runs: what such a function makes is the data of one.
    """
    folders = [str(run.folder) for run in runs]
    for option, given in (("--task", task), ("--canaries", canaries)):
        if given is not None and len(folders) > 1:
            raise InvalidInputError(
                f"{option} makes the data of one request and one seed, but {len(folders)} runs were named: "
                f"{', '.join(folders)}. Evaluate them one by one with {option}, then all of them without."
            )
    return None if task is None else task_at(task), None if canaries is None else canaries_at(canaries)


def _task_of(run: Run) -> Classification:
    study = str(run.document.get("study"))
    if study not in STUDIES:
        raise InvalidInputError(
            f"{run.folder} does not say how its data is made (`study` is {study!r}; known: {', '.join(STUDIES)}). "
            "Name the function that makes the task: --task package.module:function"
        )
    return STUDIES[study](str(run.scenario.get("name")), run.seed)


def evaluate_weights(
    paths: Sequence[Path],
    task: Classification,
    *,
    reference: Path | None = None,
    second_reference: Path | None = None,
    canaries: Canaries | None = None,
    also: Iterable[Also] = (),
    seed: int = 0,
) -> dict[str, Scores]:
    """Score weights files on a task, whose own model is the original; by name of the file.

    Raises:
        ModelError: a file cannot be read or does not fit the task's model.
        InvalidInputError: two files of one name.
    """
    names = [path.stem for path in paths]
    repeated = {name for name in names if names.count(name) > 1 or name in (ORIGINAL, REFERENCE, FLOOR)}
    if repeated:
        raise InvalidInputError(f"Files are told apart by name, but {sorted(repeated)[0]!r} is taken; rename one.")
    models = {name: _model(task, path) for name, path in zip(names, paths, strict=True)}
    target, second = (None if path is None else _model(task, path) for path in (reference, second_reference))
    evaluator = Evaluator(task, target, second_reference=second, canaries=canaries, also=also, seed=seed)
    known = {ORIGINAL: evaluator.original, REFERENCE: evaluator.reference, FLOOR: evaluator.second_reference}
    found = {name: scores for name, scores in known.items() if scores is not None}
    return found | {name: evaluator(model) for name, model in models.items()}


def document_of(task: Classification, scores: Mapping[str, Scores], seed: int) -> dict[str, Any]:
    """Return what stands in the scores.json of `evaluate_weights` beside the methods."""
    parts = ("forget", "retain", "holdout")
    return {
        "schema": 1,
        "scenario": {"counts": {part: len(task.labels(part)) for part in parts if part in task.parts}},
        "seed": seed,
        "reference": REFERENCE if REFERENCE in scores else None,
        "floor": FLOOR if FLOOR in scores else None,
        "forgotten_classes": list(task.forgotten_classes) if "retain" in task.parts else [],
    }


def write_evaluation(out: Path, document: Mapping[str, Any], scores: Mapping[str, Scores]) -> None:
    """Write answers and scores to a new or empty folder."""
    out.mkdir(parents=True, exist_ok=True)
    write_answers(out / ANSWERS, {name: found.answers for name, found in scores.items() if found.answers})
    write_scores(out, document, scores)


def check_out(out: Path) -> None:
    """Raise `InvalidInputError` unless ``out`` is a folder that is new, empty, or of an earlier evaluation."""
    check_parquet()
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"`--out` must be a folder, but {out} is a file.")
    strange = sorted(p.name for p in out.glob("*") if p.name not in (SCORES, ANSWERS)) if out.is_dir() else []
    if strange:
        raise InvalidInputError(f"`--out` must be new or empty, but {out} holds {strange[0]!r}.")


def evaluated(
    paths: Sequence[Path],
    task: str | None,
    reference: Path | None,
    second_reference: Path | None,
    canaries: str | None,
    also: Iterable[Also],
    out: Path | None,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Scores]]:
    """Score weights files as the command line asks; return what scores.json holds, and write it if told where.

    Raises:
        InvalidInputError, ModelError, DataError: see `evaluate_weights`; nothing is computed before all is checked.
    """
    if not paths:
        raise InvalidInputError("Name folders of runs, or weights files; or ask for --self-test.")
    absent = [path for path in paths if not path.exists()]
    if absent:
        raise InvalidInputError(f"There is no {absent[0]}.")
    if any(path.is_dir() for path in paths):
        raise InvalidInputError("Folders of runs and weights files are evaluated apart: name the one or the other.")
    if task is None:
        raise InvalidInputError("Weights say nothing of the data: name the function that makes the task with --task.")
    if out is not None:
        check_out(out)
    made = task_at(task)
    planted = None if canaries is None else canaries_at(canaries)
    sides = {"reference": reference, "second_reference": second_reference}
    scores = evaluate_weights(paths, made, **sides, canaries=planted, also=also, seed=seed)
    document = document_of(made, scores, seed)
    if out is not None:
        write_evaluation(out, document, scores)
    return document, scores


def tested(
    paths: Sequence[Path],
    task: str | None,
    reference: Path | None,
    second_reference: Path | None,
    canaries: str | None,
    seed: int,
    tell: digits.Tell,
) -> tuple[Checked, ...]:
    """Run the self-test: on handwritten digits with canaries, or on a task with its two retrained models.

    Raises:
        InvalidInputError: targets were named, or weights without a task.
        MissingReferenceError: a task without both retrained models.
    """
    if paths:
        raise InvalidInputError("The self-test takes no targets: it tries measures on models whose place is known.")
    if task is None:
        refuse_options(
            "the self-test on digits", reference=reference, second_reference=second_reference, canaries=canaries
        )
        return _tested_on_digits(seed, tell)
    made = task_at(task)
    models = [
        _model(made, _needed(path, name))
        for name, path in (("reference", reference), ("second-reference", second_reference))
    ]
    planted = None if canaries is None else canaries_at(canaries)
    tell("Taking every measure of every model")
    return self_test(Evaluator(made, models[0], second_reference=models[1], canaries=planted, also=ALSO, seed=seed))


def _tested_on_digits(seed: int, tell: digits.Tell) -> tuple[Checked, ...]:
    with digits.one_thread():
        chosen, planted = digits.with_canaries(seed)
        models = []
        for use, part in (("original", chosen.trained_on), ("retrain", None), ("retrain_again", None)):
            tell(f"Training: {use.replace('_', ' ')}")
            models.append(digits.trained(chosen.parts["retain"] if part is None else part, seed, use))
        tell("Taking every measure of every model")
        task = Classification(models[0], **chosen.parts)
        evaluator = Evaluator(task, models[1], second_reference=models[2], canaries=planted, also=ALSO, seed=seed)
        return self_test(evaluator)


def _needed(path: Path | None, option: str) -> Path:
    if path is None:
        raise MissingReferenceError(f"The self-test needs two retrained models; give --{option}.")
    return path


def _model(task: Classification, path: Path) -> nn.Module:
    model = copy.deepcopy(task.model)
    load_weights(path, model)
    return model.eval()
