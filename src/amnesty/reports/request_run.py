"""What the folder of a request's run says, as plain values: the facts, the scores, the history and the answers."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amnesty.evaluation import Answers, read_answers
from amnesty.reports.check import Checker
from amnesty.reports.drawn import DRAWN, DrawnRun, read_drawn
from amnesty.reports.read import HISTORY, SCORES, json_lines, parse_json, parse_scores, read_text
from amnesty.reports.scenario import Scenario, Scores
from amnesty.reports.zero_shot_view import ZERO_SHOT, ZeroShotRun, read_zero_shot

FACTS, REQUEST, ANSWERS, PAGE, AUDIT = "run.json", "request.yaml", "answers.parquet", "report.html", "audit.json"
DIFFUSION = "diffusion"
SCHEMA = 1
_AFTER_THE_PAGE = {PAGE, AUDIT, "model.sig", "checkpoint"}  # what is written later, or goes away

Floats = NDArray[np.float64]
Flat = tuple[tuple[str, str], ...]
"""Names and values, as they are shown."""


@dataclass(frozen=True)
class Rechecked:
    """Whether what an earlier request had forgotten came back."""

    name: str
    answer: str
    reason: str


@dataclass(frozen=True)
class Facts:
    """The content of run.json: what was asked, and how it was done. What is not known is ``None`` or empty."""

    name: str
    task: str = ""  # such as "diffusion"; empty where it is not known
    asked: str = ""
    forgotten: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    method: str = ""
    settings: Flat = ()
    tuned: bool = False  # whether the request itself gave settings
    self_tuned: bool = False  # whether the method chose its step size and when to stop by itself
    seed: int | None = None
    device: str = ""
    precision: str = ""
    seconds: float | None = None
    sittings: int | None = None
    started: str = ""
    ended: str = ""
    model_before: Flat = ()
    model_after: Flat = ()
    versions: Flat = ()
    action: str = ""  # what was done about duplicates; empty where none were searched for
    duplicates: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # part -> kind -> how many
    chain: tuple[Flat, ...] = ()
    rechecked: tuple[Rechecked, ...] = ()
    holdout_protocol: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class History:
    """history.jsonl by columns, each of shape [n]; a number that a line does not have is NaN."""

    step: Floats
    columns: Mapping[str, Floats]

    @property
    def players(self) -> tuple[str, ...]:
        """Who took part: those with a loss."""
        return tuple(name.removesuffix("_loss") for name in self.columns if name.endswith("_loss"))

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Which lines are steps of training, and no notes on something else; shape [n]."""
        losses = [np.isfinite(self.columns[f"{player}_loss"]) for player in self.players]
        return np.any(losses, axis=0) if losses else np.zeros(len(self.step), dtype=bool)

    @property
    def starts(self) -> list[float]:
        """The first step of every epoch but the first."""
        epochs = self.columns.get("epoch", np.zeros(len(self.step)))
        pairs = itertools.pairwise(zip(self.step, epochs, strict=True))
        return [float(step) for (_, before), (step, epoch) in pairs if epoch != before]


@dataclass(frozen=True, eq=False)
class RequestRun:
    """A finished run of a deletion request."""

    folder: Path
    facts: Facts
    scores: Scores
    history: History
    answers: Mapping[str, Mapping[str, Answers]]  # model -> part; empty where they were not stored
    request: str  # the text of request.yaml; empty where there is none
    zero_shot: ZeroShotRun | None = None
    drawn: DrawnRun | None = None

    @property
    def generator(self) -> bool:
        """Whether what was unlearned draws images."""
        return self.drawn is not None or self.facts.task == DIFFUSION

    @property
    def method(self) -> str | None:
        """The row of scores.json that is the unlearned model."""
        return self.scenario.featured

    @property
    def scenario(self) -> Scenario:
        """The same as the page of a study sees it."""
        return Scenario(self.folder, self.scores, method=self.facts.method)


def read_request_run(folder: Path) -> RequestRun:
    """Read the folder of a request's run.

    history.jsonl, answers.parquet, request.yaml, zero_shot.json and drawn.json may be missing.

    Raises:
        ReportError: there is no run.json or no scores.json, or a file cannot be understood.
        MissingExtraError, DataError: answers.parquet cannot be read.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    scores = read_scores(folder, facts)
    answers, request = folder / ANSWERS, folder / REQUEST
    return RequestRun(
        folder,
        facts,
        scores,
        _read_history(folder / HISTORY),
        read_answers(answers) if answers.is_file() else {},
        read_text(request) if request.is_file() else "",
        read_zero_shot(folder / ZERO_SHOT),
        read_drawn(folder / DRAWN),
    )


def read_facts(folder: Path) -> Facts:
    """The facts of a folder. Raises `ReportError` where there are none, or they cannot be understood."""
    path = folder / FACTS
    return parse_facts(parse_json(read_text(path), path), str(path))


def read_scores(folder: Path, facts: Facts) -> Scores:
    """The scores of a folder. Raises `ReportError` where there are none, or they cannot be understood."""
    path = folder / SCORES
    return parse_scores(parse_json(read_text(path), path), str(path), name=facts.name)


def parse_facts(content: object, where: str) -> Facts:
    """Check the content of a run.json and make `Facts` of it. Keys that are not known are left alone.

    Raises:
        ReportError: another schema, no name, or values of other types.
    """
    check = Checker(where)
    data = check.file(content, SCHEMA, named=False)
    if not data.get("name") and not check.faults:
        check.fault("name", "the request's name", data.get("name"))
    duplicates = check.mapping(data.get("duplicates"), "duplicates")
    plain: dict[str, Any] = {key: check.text(data.get(key), key) for key in _TEXTS}
    plain |= {key: check.whole(data.get(key), key) for key in ("forgotten", "seed", "sittings")}
    plain |= {key: tuple(_flat(data.get(key))) for key in ("settings", "model_before", "model_after", "versions")}
    found = Facts(
        **plain,
        tuned=bool(data.get("tuned")),
        self_tuned=bool(data.get("self_tuned")),
        seconds=check.number(data.get("seconds"), "seconds", 0.0),
        counts=_counts(check, data.get("counts"), "counts"),
        action=check.text(duplicates.get("action"), "duplicates.action"),
        duplicates={
            part: _counts(check, kinds, f"duplicates.counts.{part}")
            for part, kinds in check.mapping(duplicates.get("counts"), "duplicates.counts").items()
        },
        chain=tuple(tuple(_flat(entry)) for entry in _list(check, data.get("chain"), "chain")),
        rechecked=tuple(_rechecked(check, entry) for entry in _list(check, data.get("rechecked"), "rechecked")),
        warnings=tuple(check.text(text, "warnings") for text in _list(check, data.get("warnings"), "warnings")),
    )
    check.finish()
    return found


_TEXTS = ("name", "task", "asked", "method", "device", "precision", "started", "ended", "holdout_protocol")


def hashes_of_files(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Path, size in bytes and SHA-256 of every file that is there when the page is written, by path."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = path.is_symlink() or any(part.startswith(".") for part in parts)
        if path.is_file() and not hidden and parts[0] not in _AFTER_THE_PAGE:
            with path.open("rb") as file:
                yield "/".join(parts), path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _list(check: Checker, value: object, name: str) -> list[Any]:
    if value is None or isinstance(value, list | tuple):
        return list(value or ())
    check.fault(name, "a list", value)
    return []


def _counts(check: Checker, content: object, name: str) -> dict[str, int]:
    found = check.mapping(content, name)
    return {key: n for key, value in found.items() if (n := check.whole(value, f"{name}.{key}")) is not None}


def _rechecked(check: Checker, entry: object) -> Rechecked:
    data = check.mapping(entry, "rechecked")
    return Rechecked(*(check.text(data.get(key), f"rechecked.{key}") for key in ("name", "answer", "reason")))


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested mappings; a plain value is one without a name.

    >>> list(_flat({"lr": 0.1, "rule": {"name": "nash", "power": None}}))
    [('lr', '0.1'), ('rule.name', 'nash'), ('rule.power', 'none')]
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        yield name, ", ".join(_said(each) for each in value)
    elif value is not None or name:
        yield name, _said(value)


def _said(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read_history(path: Path) -> History:
    lines = [_parse_line(content, where) for content, where in json_lines(path)]
    names = dict.fromkeys(key for line in lines for key in line)
    columns = {name: np.array([line.get(name, np.nan) for line in lines], dtype=np.float64) for name in names}
    return History(columns.pop("step", np.zeros(0)), columns)


def _parse_line(content: object, where: str) -> dict[str, float]:
    check = Checker(where)
    data = check.mapping(content, "the line")
    if not isinstance(data.get("step"), int) and not check.faults:
        check.fault("step", "a whole number", data.get("step"))
    check.finish()
    # The comparison leaves out NaN, infinity, and whole numbers that no float can hold.
    return {key: float(v) for key, v in data.items() if isinstance(v, int | float) and abs(v) <= 1e300}
