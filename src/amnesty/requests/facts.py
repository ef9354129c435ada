"""What a run says of itself: before it begins, on its page, beside its scores, and in its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from amnesty.evaluation import Scores
from amnesty.requests.audit import AuditFacts
from amnesty.requests.digests import file_hash, names_of
from amnesty.requests.environment import versions
from amnesty.requests.prepared import REFERENCE, Prepared
from amnesty.requests.rechecking import Rechecked
from amnesty.requests.run_folder import Sitting
from amnesty.requests.signing import signature_facts
from amnesty.tasks import device_of
from amnesty.unlearning import Outcome


def plan(prepared: Prepared) -> dict[str, Any]:
    """Return what is known before anything is trained, for `amnesty.reports.show_plan`."""
    request = prepared.request
    return {
        **_known(prepared),
        "model": f"{request.model.kind}: {request.model.name}",
        "data": prepared.data,
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
            "holdout_protocol": prepared.holdout_protocol,
            "warnings": [*prepared.warnings, *_touched(prepared), *warnings],
        }
    )


def _known(prepared: Prepared) -> dict[str, Any]:
    request, counts = prepared.request, prepared.counts
    return {
        "name": request.name,
        "asked": prepared.asked,
        "forgotten": sum(counts[name] for name in prepared.forgotten.sets),
        "counts": counts,
        "method": prepared.method,
        "settings": _settings(prepared),
        "tuned": request.tuned,
        "self_tuned": prepared.self_tuned,
        "seed": request.seed,
        "device": str(device_of(prepared.task.model)),
        "precision": request.precision,
        "duplicates": _duplicates(prepared),
        "warnings": list(prepared.warnings),
    }


def _settings(prepared: Prepared) -> dict[str, Any]:
    method = prepared.request.document["method"]
    return {key: value for key, value in method.items() if key not in ("name", "tuned")}


def _duplicates(prepared: Prepared) -> dict[str, Any]:
    """Return what was found of copies; nothing where none were searched for."""
    counts = prepared.duplicate_counts
    return {"action": prepared.request.duplicates.action, "counts": counts} if counts else {}


def _touched(prepared: Prepared) -> list[str]:
    """Say so if a file of the original is no longer what was read: nothing here writes to it."""
    found = prepared.before.files
    return [
        f"{name} of the original was changed by somebody while the run went on."
        for name, path in names_of(prepared.loaded.files).items()
        if not path.is_file() or file_hash(path) != found[name]["sha256"]
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
            "asked": prepared.asked,
            "counts": prepared.counts,
            "content": {part: one.sha256 for part, one in prepared.parts_facts.items()},
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
    asked = document["forget"].get("sets") or dict.fromkeys(prepared.forgotten.sets, document["forget"])
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
        parts=prepared.parts_facts,
        holdout_protocol=facts["holdout_protocol"],
        duplicates=plain(prepared.duplicates),
        findings=scores[prepared.method].findings,
        chain=prepared.earlier.chain,
        task=plain(prepared.task_facts),
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
