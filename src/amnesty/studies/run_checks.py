"""Is a run's folder what it should be, and is a task made anew the one that the run was scored on?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amnesty.data import Batches, Canaries, batch_hashes, content_hash, dataset_of, read_column
from amnesty.errors import DataError, InvalidInputError
from amnesty.evaluation import Answers
from amnesty.tasks import Classification, Source, unpack

ORIGINAL = "original"
CANARY_PARTS = ("canaries", "canary_nonmembers")

Parts = Mapping[str, Answers]


def checked_document(path: Path, content: object) -> dict[str, Any]:
    """Return the content of a run's scores.json, without numbers that were not measured (null, or not finite).

    Raises:
        DataError: it is not of a run, of another schema, or something in it is of a wrong type.
    """
    if not isinstance(content, dict) or not isinstance(content.get("methods"), dict) or not content["methods"]:
        raise DataError(f"{path} is not the scores.json of a run: it has no `methods`.")
    if content.get("schema") != 1:
        raise DataError(f"{path}: `schema` is {content.get('schema')!r}, but this version of Amnesty reads schema 1.")
    methods = {name: _numbers(path, name, values) for name, values in content["methods"].items()}
    for key in ("reference", "floor"):
        if content.get(key) is not None and content[key] not in list(methods):
            raise _fault(path, key, f"null or one of {', '.join(methods)}", content[key])
    if content.get("seed") is not None and not _is_whole(content["seed"]):
        raise _fault(path, "seed", "a whole number", content["seed"])
    classes = content.get("forgotten_classes", [])
    if not isinstance(classes, list) or not all(map(_is_whole, classes)):
        raise _fault(path, "forgotten_classes", "a list of class numbers", classes)
    _check_scenario(path, content.get("scenario"))
    return {**content, "methods": methods}


def _check_scenario(path: Path, scenario: object) -> None:
    if scenario is None:
        return
    if not isinstance(scenario, dict):
        raise _fault(path, "scenario", "an object", scenario)
    for key in ("name", "title"):
        if scenario.get(key) is not None and not isinstance(scenario[key], str) and not _is_whole(scenario[key]):
            raise _fault(path, f"scenario.{key}", "a string", scenario[key])
    hashes = scenario.get("content")
    if hashes is None:
        return
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        raise _fault(path, "scenario.content", "an object of hashes", hashes)


def _numbers(path: Path, name: str, values: object) -> dict[str, float]:
    if not isinstance(values, dict):
        raise _fault(path, f"methods.{name}", "an object", values)
    for key, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _fault(path, f"methods.{name}.{key}", "a number", value)
    return {key: value for key, value in values.items() if value is not None and _is_finite(value)}


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _fault(path: Path, key: str, expected: str, found: object) -> DataError:
    text = repr(found)
    return DataError(f"{path}: `{key}` must be {expected}, found {text if len(text) <= 60 else text[:57] + '...'}.")


def check_answers(path: Path, answers: Mapping[str, Parts]) -> None:
    """Raise `DataError` unless the models were asked about the same examples, and answered with numbers."""
    if ORIGINAL not in answers:
        raise DataError(f"{path} lacks the answers of {ORIGINAL!r}, without which no test has a known power.")
    before = answers[ORIGINAL]
    if "forget" not in before:
        raise DataError(f"{path} lacks the answers on the forget set: no measure can be taken without them.")
    if len([part for part in CANARY_PARTS if part in before]) == 1:
        raise DataError(f"{path} must hold both or none of the parts {' and '.join(CANARY_PARTS)}.")
    for model, parts in answers.items():
        if set(parts) != set(before):
            raise DataError(
                f"{path}: {model!r} was asked about {', '.join(parts)}, but {ORIGINAL!r} about {', '.join(before)}."
            )
        for part, found in parts.items():
            where = f"{path}, {model}, {part}"
            _check_kinds(where, found)
            if not np.array_equal(found.label, before[part].label):
                raise DataError(
                    f"{where}: the {len(found)} labels are not the {len(before[part])} of {ORIGINAL!r}. Answers to "
                    "different examples cannot be compared."
                )


def _check_kinds(where: str, found: Answers) -> None:
    for key in ("label", "predicted"):
        if getattr(found, key).dtype.kind not in "iu":
            raise DataError(f"{where}: `{key}` must hold class numbers, found {getattr(found, key).dtype}.")
    for key in ("margin", "entropy", "modified_entropy", "js_to_reference"):
        values = getattr(found, key)
        if values is not None and (values.dtype.kind != "f" or not np.isfinite(values).all()):
            raise DataError(f"{where}: `{key}` must hold finite numbers.")


def check_same_data(
    folder: Path,
    stored: Parts | None,
    content: Mapping[str, str],
    task: Classification,
    canaries: Canaries | None = None,
) -> None:
    """Raise unless a task holds the data that a run was scored on, part by part.

    Args:
        folder: of the run.
        stored: the original's answers by part; ``None`` where there are none.
        content: part -> `content_hash`, as recorded.
        task: made anew.
        canaries: as planted before training.

    Raises:
        DataError: labels or contents differ, or nothing is recorded to compare with.
        InvalidInputError: the run was scored with canaries and none are given, or the other way round.
    """
    if stored is None and "forget" not in content:
        raise DataError(
            f"{folder} holds neither answers nor hashes of its data: nobody can tell whether the task is that of the "
            "run."
        )
    parts = {part for part in task.parts if part != "validation"}  # of which no score is made
    if stored is not None:
        _check_canaries(folder, stored, canaries)
        _check_labels(folder, stored, task, parts, canaries)
    for part in sorted(content.keys() - {"validation"}):
        if part not in parts or content_hash(dataset_of(task.parts[part], part)) != content[part]:
            raise DataError(f"{folder}, {part}: the task's examples are not those that were recorded: {_OTHER}")


_OTHER = "its models would be scored on other data, and what is recorded would be lost."


def _check_canaries(folder: Path, stored: Parts, canaries: Canaries | None) -> None:
    if canaries is None and "canaries" in stored:
        raise InvalidInputError(
            f"{folder} was scored with canaries, which are left out of every other number: asked without them, its "
            "models would be scored on other data. Name the function that makes them: --canaries "
            "package.module:function"
        )
    if canaries is not None and "canaries" not in stored:
        raise InvalidInputError(f"{folder} was scored without canaries: leave out --canaries.")


def _check_labels(
    folder: Path, stored: Parts, task: Classification, parts: set[str], canaries: Canaries | None
) -> None:
    known = set(stored) - set(CANARY_PARTS)
    if known != parts:
        raise DataError(
            f"{folder} was scored on the parts {', '.join(sorted(known))}, but the task has "
            f"{', '.join(sorted(parts))}: {_OTHER}"
        )
    for part, labels in _labels(task, parts, canaries).items():
        if not np.array_equal(labels, stored[part].label):
            raise DataError(
                f"{folder}, {part}: the task's {len(labels)} labels are not the {len(stored[part])} of the stored "
                f"answers: {_OTHER}"
            )


def _labels(task: Classification, parts: set[str], canaries: Canaries | None) -> dict[str, np.ndarray]:
    """Return the labels by part, as an `amnesty.evaluation.Evaluator` sorts them."""
    found: dict[str, np.ndarray] = {part: task.labels(part).numpy() for part in sorted(parts)}
    if canaries is not None:
        planted = set(_hashes(canaries.members))
        is_planted = np.array([h in planted for h in _hashes(task.parts["forget"])])
        found["canaries"], found["forget"] = found["forget"][is_planted], found["forget"][~is_planted]
        found["canary_nonmembers"] = read_column(canaries.nonmembers, "label")
    return found


def _hashes(source: Source) -> list[bytes]:
    return [h for batch in Batches(source, 512).iterate() for h in batch_hashes(*unpack(batch))]
