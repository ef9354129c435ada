"""audit.json: what was asked, what was done, on what, and what came of it; the last file of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from amnesty.data import content_hash, dataset_of
from amnesty.errors import InvalidInputError
from amnesty.evaluation import Finding
from amnesty.files import write_text
from amnesty.requests.audit_schema import SCHEMA, faults
from amnesty.requests.digests import (
    AUDIT,
    NOT_LISTED,
    SCORES,
    SIGNATURE,
    WORKING,
    alone,
    canonical,
    contents,
    count_records,
    described,
    is_plain,
    names_of,
    parsed,
    read_text,
    saved_tensors_hash,
    shown,
    text_hash,
    weight_files,
)
from amnesty.requests.environment import hardware, versions
from amnesty.requests.forgotten import FORGOTTEN, read_forgotten, read_forgotten_before
from amnesty.requests.links import Link, broken_links
from amnesty.tasks import Source
from amnesty.weights import hash_tensors


class AuditError(InvalidInputError):
    """A folder without a record that could be checked, or with one that does not hold."""


@dataclass(frozen=True)
class ModelFacts:
    """A model as it was read.

    Attributes:
        files: name of a file -> its SHA-256 and size in bytes.
        tensors: hash of its tensors; see `amnesty.weights.hash_tensors`.
        about: where it came from, as plain data.
    """

    files: Mapping[str, Mapping[str, Any]]
    tensors: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PartFacts:
    """A part of the data: how many examples, and `amnesty.data.content_hash` of them, or of what ``of`` says."""

    count: int
    sha256: str
    of: str = "examples"


@dataclass(frozen=True, kw_only=True)
class AuditFacts:
    """What a run knows of itself when it ends. All mappings hold plain data, as JSON has it.

    Attributes:
        name: of the request.
        asked: name of a forget set -> what was to be selected for it.
        model_before: see `model_facts`.
        method: its name. settings: all of them, resolved. tuned: whether the request gave any of them.
        seed, device, precision: as they were used.
        started, ended: with a time zone. seconds: of the method. sittings: 1, and one more for each resume.
        parts: every part of the task; see `part_facts`.
        holdout_protocol: which examples stand for unseen ones, how the validation part was drawn, and that the
            method read that part and not the holdout part.
        duplicates: what was found, and what was done about it.
        findings: what the scores allow to be said.
        chain: earlier requests; see `amnesty.requests.chain`.
        rechecked: whether what they forgot came back: name, answer, reason, and further numbers.
        warnings: what a reader should know.
        task: what a task that is not classification says beside model and data; ``None`` for classification.
        signature: see `amnesty.requests.signing.signature_facts`; ``None`` where the result is not signed.
    """

    name: str
    asked: Mapping[str, Any]
    model_before: ModelFacts
    method: str
    settings: Mapping[str, Any]
    tuned: bool
    seed: int
    device: str
    precision: str
    started: datetime
    ended: datetime
    seconds: float
    sittings: int
    parts: Mapping[str, PartFacts]
    holdout_protocol: str
    duplicates: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    chain: Sequence[Link] = ()
    rechecked: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    task: Mapping[str, Any] | None = None
    signature: Mapping[str, Any] | None = None


def model_facts(
    files: Sequence[Path], state: Mapping[str, Tensor], about: Mapping[str, Any] | None = None
) -> ModelFacts:
    """Hash a model as it was read; to be called right after, before anything is trained.

    The tensors that count are those in the files where these are safetensors, so that the model that one request
    leaves and the next one reads has one hash; else those of ``state``, the model's own.

    Raises:
        ModelError, OSError: a file cannot be read.
    """
    own = files and all(path.suffix == ".safetensors" for path in files)
    tensors = saved_tensors_hash(files) if own else hash_tensors(state)
    return ModelFacts({name: described(path) for name, path in names_of(files).items()}, tensors, about or {})


def part_facts(parts: Mapping[str, Source]) -> dict[str, PartFacts]:
    """Count and hash the parts of a task. Raises `DataError` for a loader that cannot be seen through."""
    sets = {name: dataset_of(source, name) for name, source in parts.items()}
    return {name: PartFacts(len(data), content_hash(data)) for name, data in sets.items()}  # type: ignore[arg-type]


def write_audit(folder: Path, facts: AuditFacts) -> Path:
    """Write audit.json, whole or not at all, once all other files of the run are there; return its path.

    The model, the scores, the history and the list of forgotten examples are taken from the folder, as they stand
    there. A signature of an earlier record is removed.

    Raises:
        AuditError: a file that the record rests on is missing, is no plain file, or is not what it should be; or
            the facts are not plain data.
        ModelError: the unlearned model cannot be read.
        OSError: the folder cannot be read or written to.
    """
    document = _document(folder, facts)
    broken = list(broken_links(facts.chain, facts.model_before.tensors, read_forgotten_before(folder)))
    if broken:
        raise AuditError(f"The chain of requests does not hold: {'; '.join(broken)}.")
    try:
        text = canonical({**document, "sha256": text_hash(canonical(document))})
    except (TypeError, ValueError) as error:
        raise AuditError(f"The record would hold something that JSON does not have: {error}") from error
    wrong = list(faults(parsed(text)))
    if wrong:
        raise AuditError(f"The record would not be complete: {'; '.join(wrong)}.")
    (folder / SIGNATURE).unlink(missing_ok=True)
    write_text(folder / AUDIT, text)
    return folder / AUDIT


def _document(folder: Path, facts: AuditFacts) -> dict[str, Any]:
    parts = {name: _part(part) for name, part in facts.parts.items()}
    return {
        "schema": SCHEMA,
        "name": facts.name,
        "forget": _forget(folder, facts),
        "model": _model(folder, facts.model_before),
        **({} if facts.task is None else {"task": facts.task}),
        "method": {"name": facts.method, "settings": facts.settings, "tuned": facts.tuned},
        "seed": facts.seed,
        "precision": facts.precision,
        "hardware": hardware(facts.device),
        "versions": versions(),
        "time": _time(facts),
        "data": {"parts": parts, "fingerprint": text_hash(canonical(parts))},
        "holdout_protocol": facts.holdout_protocol,
        "duplicates": facts.duplicates,
        "training": {"records": count_records(folder)},
        "scores": _json(folder / SCORES),
        "findings": [{"question": f.question, "answer": f.answer, "reason": f.reason} for f in facts.findings],
        "chain": [link.document for link in facts.chain],
        "rechecked": list(facts.rechecked),
        "warnings": list(facts.warnings),
        "signature": facts.signature,
        "files": _files(folder),
    }


def _part(part: PartFacts) -> dict[str, Any]:
    of = {} if part.of == "examples" else {"of": part.of}
    return {"count": part.count, "sha256": part.sha256, **of}


def _forget(folder: Path, facts: AuditFacts) -> dict[str, Any]:
    forgotten = read_forgotten(folder)
    if forgotten.name != facts.name or set(forgotten.sets) != set(facts.asked):
        raise AuditError(f"{folder / FORGOTTEN} is of another request than {facts.name!r} with {list(facts.asked)}.")
    sets = {name: {"selector": facts.asked[name], "count": len(found)} for name, found in forgotten.sets.items()}
    return {"sets": sets, "count": len(forgotten.hashes), "sha256": forgotten.sha256}


def _model(folder: Path, before: ModelFacts) -> dict[str, Any]:
    files = weight_files(folder)
    if not files:
        raise AuditError(
            f"{folder} holds no unlearned model: neither model.safetensors nor model/*.safetensors, no pipeline, no "
            "adapters."
        )
    names = [path.relative_to(folder).as_posix() for path in files]
    after: dict[str, Any] = {"files": names, "tensors": saved_tensors_hash(files)}
    if alone(files):
        after["base"] = before.tensors
    return {"before": {"files": before.files, "tensors": before.tensors, "about": before.about}, "after": after}


def _time(facts: AuditFacts) -> dict[str, Any]:
    started, ended = _utc(facts.started), _utc(facts.ended)
    return {"started": started, "ended": ended, "seconds": facts.seconds, "sittings": facts.sittings}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    found = dict(contents(folder, without=(*NOT_LISTED, *WORKING)))
    strange = [name for name, path in found.items() if not is_plain(path)]
    if strange:
        raise AuditError(
            f"{folder} holds {', '.join(map(shown, strange[:3]))}, which {'is' if len(strange) == 1 else 'are'} no "
            "plain file (a link, say): what stands there could change without a trace. Copy it, or take it out."
        )
    return {name: described(path) for name, path in found.items()}


def _json(path: Path) -> Any:
    text = read_text(path)
    try:
        return parsed("" if text is None else text)
    except ValueError as error:
        raise AuditError(f"{path} is missing or no JSON: {error}") from error


def _utc(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise AuditError(f"Times need a time zone, found {moment.isoformat()}: `datetime.now(UTC)` has one.")
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def inspect_audit(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the record in ``folder`` and nothing, or, where it does not hold, nothing and what is wrong with it.

    Raises:
        AuditError: there is no record, or it is of a schema that this version does not know.
    """
    path = folder / AUDIT
    if not path.exists() and not path.is_symlink():
        running = any((folder / name).exists() for name in WORKING)
        hint = "the run has not come to its end" if running else "it is not the folder of a finished run"
        raise AuditError(f"{folder} has no {AUDIT}: {hint}.")
    if not is_plain(path):
        return None, "is no plain file"
    text = read_text(path)
    if text is None:
        return None, "is not text in UTF-8: it was changed"
    try:
        document = parsed(text)
        rest = {key: value for key, value in document.items() if key != "sha256"}
        stands = canonical(document) == text and document.get("sha256") == text_hash(canonical(rest))
    except (AttributeError, ValueError) as error:
        return None, f"is not the JSON that Amnesty writes ({error}): it was changed"
    if not stands:
        return None, "does not have the SHA-256 that it names itself: it was changed"
    if document.get("schema") != SCHEMA:
        raise AuditError(
            f"{path}: `schema` is {document.get('schema')!r}, but this version of Amnesty reads schema {SCHEMA}."
        )
    wrong = list(faults(document))
    return (None, f"is not a record of Amnesty: {'; '.join(wrong[:5])}") if wrong else (document, "")


def read_audit(folder: Path) -> dict[str, Any]:
    """Return the record of a run, checked for being whole; `amnesty.requests.verifying.verify` checks the rest.

    Raises:
        AuditError: it is missing, was changed, or is of a schema that this version does not know.
    """
    document, wrong = inspect_audit(folder)
    if document is None:
        raise AuditError(f"{folder / AUDIT} {wrong}.")
    return document
