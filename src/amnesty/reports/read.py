"""From the files of a folder to scenarios. Every fault names the file, and the line where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amnesty.errors import ReportError
from amnesty.evaluation.measures import MEASURES
from amnesty.reports.check import Checker
from amnesty.reports.scenario import Example, Prediction, Scenario, Scores, Step

SCHEMA = 1
SCORES, HISTORY, EXAMPLES = "scores.json", "history.jsonl", "examples.json"


def read_scenarios(folder: Path) -> list[Scenario]:
    """All scenarios of a folder: itself if it holds a scores.json, or else its sub-folders that do.

    Sorted by `order` in scores.json where given, then by folder name. history.jsonl and examples.json may be missing.

    Raises:
        ReportError: The folder is missing or holds no scores.json, or a file cannot be understood.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"`folder` must be the folder of a run or study, but {str(folder)!r} is not a folder.")
    if (folder / SCORES).is_file():
        return [_read_scenario(folder)]
    found = [path.parent for path in sorted(folder.glob(f"*/{SCORES}"))]
    if not found:
        raise ReportError(
            f"No {SCORES} in {str(folder)!r} or in a folder directly below it. Pass the folder that "
            "`amnesty demo`, `amnesty unlearn` or `amnesty study` wrote."
        )
    scenarios = [_read_scenario(path) for path in found]
    return sorted(scenarios, key=lambda scenario: (scenario.scores.order, scenario.folder.name))


def parse_scores(content: object, where: str, name: str = "") -> Scores:
    """Check the content of a scores.json and make `Scores` of it; `name` is used where it gives none.

    Raises:
        ReportError: Another schema, wrong types, fractions outside [0, 1], or an unknown reference.
    """
    check = Checker(where)
    data = check.file(content, SCHEMA)
    about = check.mapping(data.get("scenario"), "scenario")
    named = check.text(about.get("name"), "scenario.name") or name
    methods = _parse_methods(check, data.get("methods"))
    reference = check.text(data.get("reference"), "reference") or None
    if reference is not None and reference not in methods:
        check.fault("reference", f"null or one of {sorted(methods)}", reference)
    floor = check.text(data.get("floor"), "floor") or None
    if floor is not None and (floor not in methods or floor == reference):
        check.fault("floor", f"null or another method than the reference, of {sorted(methods)}", floor)
    counts = check.mapping(about.get("counts"), "scenario.counts")
    versions = check.mapping(data.get("versions"), "versions")
    scores = Scores(
        methods=methods,
        reference=reference,
        floor=floor,
        name=named,
        title=check.text(about.get("title"), "scenario.title") or named.replace("_", " ").capitalize(),
        asked=check.text(about.get("asked"), "scenario.asked"),
        setting=check.text(about.get("setting"), "scenario.setting"),
        order=check.whole(about.get("order"), "scenario.order") or 0,
        counts={key: n for key, v in counts.items() if (n := check.whole(v, f"counts.{key}")) is not None},
        seed=check.whole(data.get("seed"), "seed"),
        device=check.text(data.get("device"), "device"),
        versions={key: check.text(value, f"versions.{key}") for key, value in sorted(versions.items())},
    )
    check.finish()
    return scores


def _parse_methods(check: Checker, content: object) -> dict[str, dict[str, float]]:
    methods = check.mapping(content, "methods")
    if not methods and not check.faults:
        check.fault("methods", "an object with at least one method", content)
    parsed: dict[str, dict[str, float]] = {}
    for method, entry in methods.items():
        values = check.mapping(entry, f"methods.{method}")
        numbers = {key: _parse_measure(check, f"{method}.{key}", key, value) for key, value in values.items()}
        parsed[method] = {key: value for key, value in numbers.items() if value is not None}
    return parsed


def _parse_measure(check: Checker, name: str, key: str, value: object) -> float | None:
    measure = MEASURES.get(key)
    if measure is None:  # shown as it is, if it is a number at all
        return check.number(value, name) if isinstance(value, int | float) else None
    unit = f"between {measure.low:g} and {measure.high:g} (a fraction, not a percentage)"
    if measure.high == float("inf"):
        unit = "a finite number" + (" that is not negative" if measure.low == 0 else "")
    return check.number(value, name, measure.low, measure.high, unit)


def _read_scenario(folder: Path) -> Scenario:
    path = folder / SCORES
    scores = parse_scores(parse_json(read_text(path), path), str(path), name=folder.resolve().name)
    examples, method = _read_examples(folder / EXAMPLES)
    return Scenario(folder, scores, _read_history(folder / HISTORY), examples, method)


def _read_history(path: Path) -> tuple[Step, ...]:
    return tuple(_parse_step(content, where) for content, where in json_lines(path))


def json_lines(path: Path) -> Iterator[tuple[object, str]]:
    """Every line of a file of JSON lines, and the words for where it stands; nothing where there is no such file."""
    lines = enumerate(read_text(path).split("\n") if path.is_file() else (), start=1)
    return ((parse_json(line, path, at), f"{path}, line {at}") for at, line in lines if line.strip())


def _parse_step(content: object, where: str) -> Step:
    check = Checker(where)
    data = check.mapping(content, "the line")
    step = check.whole(data.get("step"), "step")
    if step is None and not check.faults:
        check.fault("step", "a whole number", None)
    stationary = data.get("stationary")
    if stationary is not None and not isinstance(stationary, bool):
        check.fault("stationary", "true or false", stationary)
    parsed = Step(
        step=step or 0,
        epoch=check.whole(data.get("epoch"), "epoch"),
        forget_loss=check.number(data.get("forget_loss"), "forget_loss"),
        retain_loss=check.number(data.get("retain_loss"), "retain_loss"),
        cosine=check.number(data.get("cosine"), "cosine", -1.001, 1.001, "between -1 and 1"),
        stationary=bool(stationary),
    )
    check.finish()
    return parsed


def _read_examples(path: Path) -> tuple[tuple[Example, ...], str | None]:
    if not path.is_file():
        return (), None
    check = Checker(str(path))
    data = check.mapping(parse_json(read_text(path), path), "the file")
    listed = data.get("examples", [])
    if not isinstance(listed, list):
        check.fault("examples", "a list", listed)
        listed = []
    entries = [check.mapping(entry, f"examples[{at}]") for at, entry in enumerate(listed)]
    examples = [_parse_example(check, entry, f"examples[{at}]") for at, entry in enumerate(entries)]
    method = check.text(data.get("method"), "method") or None
    check.finish()
    return tuple(examples), method


def _parse_example(check: Checker, data: Mapping[str, Any], name: str) -> Example:
    label = check.text(data.get("label"), f"{name}.label")
    return Example(
        image=_parse_image(check, data.get("image"), f"{name}.image"),
        label=label,
        true_label=check.text(data.get("true_label"), f"{name}.true_label") or label,
        before=_parse_prediction(check, data.get("before"), f"{name}.before"),
        after=_parse_prediction(check, data.get("after"), f"{name}.after"),
        reference=_parse_prediction(check, data.get("reference"), f"{name}.reference"),
    )


def _parse_prediction(check: Checker, content: object, name: str) -> Prediction | None:
    if content is None:
        return None
    data = check.mapping(content, name)
    confidence = check.number(data.get("confidence"), f"{name}.confidence", 0, 1.001, "a fraction in [0, 1]")
    return Prediction(check.text(data.get("label"), f"{name}.label"), confidence)


def _parse_image(check: Checker, rows: object, name: str) -> NDArray[np.uint8]:
    expected = "rows of whole numbers 0..255, [height, width] or [height, width, 3]"
    blank = np.zeros((1, 1), dtype=np.uint8)
    try:
        pixels = np.array(rows)
    except ValueError:  # rows of different lengths
        check.fault(name, expected, rows)
        return blank
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not fits or pixels.size == 0 or pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
        check.fault(name, expected, rows)
        return blank
    return pixels.astype(np.uint8)


def read_text(path: Path) -> str:
    """The text of a file. Raises `ReportError` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from error


def parse_json(text: str, path: Path, line: int | None = None) -> object:
    """What a JSON text says. Raises `ReportError`, which names the file and the line."""
    try:
        content: object = json.loads(text)
    except json.JSONDecodeError as error:
        at = error.lineno if line is None else line
        raise ReportError(
            f"{path}, line {at}: not valid JSON ({error.msg}, column {error.colno}). "
            "The file may be cut off; run the scenario again."
        ) from error
    except RecursionError as error:
        raise ReportError(f"{path}: not a file of Amnesty (nested too deeply).") from error
    return content
