"""Do the files of a run, none of them changed, say what its record says?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from amnesty.errors import AmnestyError, MissingExtraError
from amnesty.requests.digests import (
    ANSWERS,
    HISTORY,
    REQUEST,
    SCORES,
    alone,
    canonical,
    count_records,
    parsed,
    read_text,
    saved_tensors_hash,
    text_hash,
    weight_files,
)
from amnesty.requests.environment import hardware, versions
from amnesty.requests.forgotten import FORGOTTEN, FORGOTTEN_BEFORE, read_forgotten, read_forgotten_before
from amnesty.requests.links import Link, broken_links

SAME = 1e-6
"""How far a number that is taken again may lie from the recorded one on the same hardware with the same libraries."""

ELSEWHERE = 0.01
"""The same elsewhere: other kernels round otherwise, and an example at a threshold may fall beyond it."""

Audit = Mapping[str, Any]


def content_problems(folder: Path, audit: Audit) -> Iterator[tuple[str, list[str]]]:
    """Yield what was looked at, and what was found wrong with it.

    Only for folders whose files are those of the record: nothing is read here that could have been tampered with.
    """
    for what, look in _CHECKS.items():
        try:
            yield what, list(look(folder, audit))
        except AmnestyError as error:
            yield what, [str(error)]


def _model(folder: Path, audit: Audit) -> Iterator[str]:
    recorded = audit["model"]["after"]
    files = weight_files(folder)
    if [path.relative_to(folder).as_posix() for path in files] != recorded["files"]:
        yield f"the model's files are not {', '.join(recorded['files'])}, which audit.json names"
    elif saved_tensors_hash(files) != recorded["tensors"]:
        yield f"{', '.join(recorded['files'])}: the tensors do not have the hash that audit.json names"
    elif alone(files) and recorded.get("base") != audit["model"]["before"]["tensors"]:
        yield f"{', '.join(recorded['files'])}: go with another model than the one that audit.json names as before"


def _forgotten(folder: Path, audit: Audit) -> Iterator[str]:
    found, recorded = read_forgotten(folder), audit["forget"]
    sizes = {name: len(hashes) for name, hashes in found.sets.items()}
    if (found.name, found.sha256, len(found.hashes)) != (
        audit["name"],
        recorded["sha256"],
        recorded["count"],
    ) or sizes != {name: one["count"] for name, one in recorded["sets"].items()}:
        yield f"{FORGOTTEN}: is not the list of examples that audit.json names"


def _scores(folder: Path, audit: Audit) -> Iterator[str]:
    if _json(folder / SCORES) != audit["scores"]:
        yield f"{SCORES}: its numbers are not those in audit.json"


def _history(folder: Path, audit: Audit) -> Iterator[str]:
    found, recorded = count_records(folder), audit["training"]["records"]
    if found != recorded:
        yield f"{HISTORY}: holds {found} records, audit.json names {recorded}"


def _request(folder: Path, audit: Audit) -> Iterator[str]:
    request = _yaml(folder / REQUEST)
    if not isinstance(request, dict):
        yield f"{REQUEST}: cannot be read"
        return
    for key in ("name", "seed", "precision"):
        if key in request and request[key] != audit[key]:
            yield f"{REQUEST}: `{key}` is {request[key]!r}, audit.json names {audit[key]!r}"


def _data(folder: Path, audit: Audit) -> Iterator[str]:
    if text_hash(canonical(audit["data"]["parts"])) != audit["data"]["fingerprint"]:
        yield "audit.json: the parts of the data do not have the fingerprint that it names"


def _chain(folder: Path, audit: Audit) -> Iterator[str]:
    chain = [Link.of(one) for one in audit["chain"]]
    for line in broken_links(chain, audit["model"]["before"]["tensors"], read_forgotten_before(folder)):
        yield f"chain: {line}"


def _json(path: Path) -> Any:
    try:
        return parsed(read_text(path) or "")
    except ValueError:
        return None


def _yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(read_text(path) or "")
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def parent_folder(folder: Path) -> Path | None:
    """Return the folder of the run whose model a run started from, as its request.yaml names it; ``None`` if none."""
    request = _yaml(folder / REQUEST)
    model = request.get("model") if isinstance(request, dict) else None
    run = model.get("run") if isinstance(model, dict) else None
    return folder / run if isinstance(run, str) else None


_CHECKS: dict[str, Callable[[Path, Audit], Iterator[str]]] = {
    f"{REQUEST} against audit.json": _request,
    "the tensors of the unlearned model": _model,
    f"{FORGOTTEN} against audit.json": _forgotten,
    f"{SCORES} against audit.json": _scores,
    f"{HISTORY} against audit.json": _history,
    "the fingerprint of the data parts": _data,
    f"the chain of earlier requests and {FORGOTTEN_BEFORE}": _chain,
}


def tolerance_of(audit: Audit) -> tuple[float, str]:
    """Return how far scores that are taken again here may lie from the recorded ones, and why."""
    here, there = versions(), audit["versions"]
    same = all(there[key] == here[key] for key in ("amnesty", "commit", "torch", "numpy", "platform"))
    try:
        alike = same and audit["hardware"] == hardware(audit["hardware"]["type"])
    except (AssertionError, RuntimeError):  # there is no such device here
        alike = False
    return (SAME, "same hardware and versions") if alike else (ELSEWHERE, "other hardware or versions")


def rescored_problems(folder: Path, audit: Audit) -> list[str]:
    """Take every score again from the stored answers; return those that differ from the recorded ones.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: there are no stored answers, or they cannot be read.
    """
    from amnesty.studies.runs import read_run, rescore

    found, (tolerance, _) = rescore(read_run(folder)), tolerance_of(audit)
    return [
        f"{ANSWERS}: {name}: {line}"
        for name, numbers in _methods(audit).items()
        for line in differing(numbers, found.get(name, {}), tolerance)
    ]


def recorded_scores(audit: Audit) -> dict[str, float]:
    """Return the recorded numbers of the unlearned model."""
    methods = _methods(audit)
    name = audit["method"]["name"]
    if name in methods:
        return methods[name]
    others = [key for key in methods if key not in ("original", audit["scores"].get("reference"))]
    return methods[others[0]] if len(others) == 1 else {}


def _methods(audit: Audit) -> dict[str, dict[str, float]]:
    methods = audit["scores"].get("methods")
    return methods if isinstance(methods, dict) else {}


def differing(recorded: Mapping[str, float], found: Mapping[str, float], tolerance: float) -> Iterator[str]:
    """Yield the numbers that both have and that differ by more than ``tolerance``, relative where they exceed 1.

    Times are no part of it.

    >>> list(differing({"forget_accuracy": 0.25, "seconds": 1.0}, {"forget_accuracy": 0.5, "seconds": 2.0}, 1e-6))
    ['`forget_accuracy` is recorded as 0.25, found 0.5']
    """
    for key in sorted(recorded.keys() & found.keys() - {"seconds", "runtime_efficiency"}):
        was, now = recorded[key], found[key]
        if not isinstance(was, int | float) or not math.isclose(was, now, rel_tol=tolerance, abs_tol=tolerance):
            yield f"`{key}` is recorded as {was}, found {now}"


def can_read_answers() -> bool:
    """Say whether stored answers can be read here."""
    from amnesty.evaluation import check_parquet

    try:
        check_parquet()
    except MissingExtraError:
        return False
    return True
