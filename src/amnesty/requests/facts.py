"""What a run says of itself: before it begins, on its page, beside its scores, and in its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from amnesty.evaluation import Scores
from amnesty.requests.audit import AuditFacts, PartFacts
from amnesty.requests.digests import file_hash
from amnesty.requests.environment import versions
from amnesty.requests.preparing import Prepared, holdout_protocol
from amnesty.requests.rechecking import Rechecked
from amnesty.requests.run_folder import Sitting
from amnesty.requests.signing import signature_facts
from amnesty.requests.zero_shot import settings_of
from amnesty.tasks import device_of
from amnesty.unlearning import Outcome

REFERENCE = "reference"


def plan(prepared: Prepared) -> dict[str, Any]:
    """Return what is known before anything is trained, for `amnesty.reports.show_plan`."""
    request = prepared.request
    return {
        **_known(prepared),
        "model": f"{request.model.kind}: {request.model.name}",
        "data": f"{request.data.training.kind}: {request.data.training.name}",
        "out": str(request.out),
    }


def run_facts(
    prepared: Prepared,
    outcome: Outcome,
    sitting: Sitting,
    rechecked: Iterable[Rechecked],
    warnings: Iterable[str],
) -> dict[str, Any]:
    """Return what run.json holds once a run is over; see `amnesty.reports.request_run.Facts`."""
    before = prepared.before
    return plain(  # type: ignore[no-any-return]
        {
            **_known(prepared),
            "seconds": outcome.seconds,
            "sittings": sitting.number,
            "started": sitting.started.isoformat(),
            "ended": datetime.now(UTC).isoformat(),
            "model_before": {
                "tensors": before.tensors,
                **{name: one["sha256"] for name, one in before.files.items()},
            },
            "model_after": {"type": type(outcome.model).__name__},
            "versions": versions(),
            "chain": [link.document for link in prepared.earlier.chain],
            "rechecked": [{"name": one.name, "answer": one.answer, "reason": one.reason} for one in rechecked],
            "holdout_protocol": holdout_protocol(prepared.request),
            "warnings": [*prepared.warnings, *_touched(prepared), *warnings],
        }
    )


def _known(prepared: Prepared) -> dict[str, Any]:
    request = prepared.request
    return {
        "name": request.name,
        "asked": asked_in_words(prepared),
        "forgotten": sum(prepared.parts.counts[name] for name in prepared.parts.forget),
        "counts": prepared.parts.counts,
        "method": prepared.method,
        "settings": _settings(prepared),
        "tuned": request.tuned,
        "self_tuned": prepared.self_tuned,
        "seed": request.seed,
        "device": str(device_of(prepared.task.model)),
        "precision": request.precision,
        "duplicates": {"action": request.duplicates.action, "counts": prepared.leaks.found.counts()},
        "warnings": list(prepared.warnings),
    }


def _settings(prepared: Prepared) -> dict[str, Any]:
    method = prepared.request.document["method"]
    return {key: value for key, value in method.items() if key not in ("name", "tuned")}


def asked_in_words(prepared: Prepared) -> str:
    """Say what is to be forgotten: counts, and classes by name; no values of columns, which may name people."""
    counts, task = prepared.parts.counts, prepared.task
    total = sum(counts[name] for name in prepared.parts.forget)
    trained = total + counts["retain"]
    gone = [task.class_names[c] for c in task.forgotten_classes]
    classes = f", among them all of class {', '.join(gone)}" if gone else ""
    sets = len(prepared.parts.forget)
    apart = f" in {sets} sets" if sets > 1 else ""
    return f"Forget {total:,} of {trained:,} training examples{apart}{classes}."


def _touched(prepared: Prepared) -> list[str]:
    """Say so if a file of the original is no longer what was read: nothing here writes to it."""
    found = prepared.before.files
    return [
        f"{path.name} of the original was changed by somebody while the run went on."
        for path in prepared.loaded.files
        if not path.is_file() or file_hash(path) != found[path.name]["sha256"]
    ]


def scores_document(prepared: Prepared, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Return what stands in scores.json beside the numbers of the models."""
    name = prepared.request.name
    here = versions()
    return {
        "schema": 1,
        "scenario": {
            "name": name,
            "title": name,
            "asked": asked_in_words(prepared),
            "counts": prepared.parts.counts,
            "content": prepared.parts.content,
        },
        "seed": prepared.request.seed,
        "reference": REFERENCE if REFERENCE in scores else None,
        "floor": None,
        "forgotten_classes": list(prepared.task.forgotten_classes),
        "device": str(device_of(prepared.task.model)),
        "versions": {key: here[key] for key in ("amnesty", "torch", "python")},
    }


def audit_facts(
    prepared: Prepared,
    outcome: Outcome,
    scores: Mapping[str, Scores],
    facts: Mapping[str, Any],
    rechecked: Iterable[Rechecked],
) -> AuditFacts:
    """Return what audit.json holds of a run; ``facts`` are its `run_facts`."""
    request, document = prepared.request, prepared.request.document
    content, counts = prepared.parts.content, prepared.parts.counts
    asked = document["forget"].get("sets") or dict.fromkeys(prepared.parts.forget, document["forget"])
    return AuditFacts(
        name=request.name,
        asked=plain(asked),
        model_before=prepared.before,
        method=prepared.method,
        settings=facts["settings"],
        tuned=request.tuned,
        seed=request.seed,
        device=facts["device"],
        precision=request.precision,
        started=datetime.fromisoformat(facts["started"]),
        ended=datetime.fromisoformat(facts["ended"]),
        seconds=outcome.seconds,
        sittings=facts["sittings"],
        parts={name: PartFacts(counts[name], content[name]) for name in prepared.parts},
        holdout_protocol=facts["holdout_protocol"],
        duplicates=plain(prepared.leaks.describe()),
        findings=scores[prepared.method].findings,
        chain=prepared.earlier.chain,
        task=plain(settings_of(prepared.task, document["zero_shot"])),
        rechecked=[one.document for one in rechecked],
        warnings=facts["warnings"],
        signature=signature_facts(request.sign),
    )


def plain(value: Any) -> Any:
    """Return mappings and sequences as dicts and lists, paths as text.

    >>> plain({"files": (Path("a"), 1)})
    {'files': ['a', 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
