"""A finished run, read again: its model on the data that its request names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from amnesty.errors import InvalidInputError
from amnesty.evaluation import Evaluator
from amnesty.requests.audit import read_audit
from amnesty.requests.checking import read_request
from amnesty.requests.digests import REQUEST
from amnesty.requests.inputs import inputs_of
from amnesty.requests.models import load_model
from amnesty.requests.preparing import Prepared, prepare
from amnesty.requests.request import ModelSpec
from amnesty.requests.sources import load_sources
from amnesty.tasks import Source, device_of


def reevaluated(folder: Path) -> Mapping[str, float]:
    """Ask the model that a run left again, on the data that its request names; return its scores.

    Raises:
        AuditError: the folder has no record that holds.
        InvalidInputError: the model before, or the data, is no longer there, or is not what it was.
    """
    prepared = prepare(read_request(folder / REQUEST, look=False))
    changed = list(_changed(prepared, folder))
    if changed:
        raise InvalidInputError(f"{', '.join(changed)} changed since the run")
    after = load_model(ModelSpec(kind="run", name=str(folder)), prepared.sources.classes).model
    evaluator = Evaluator(prepared.task, prepared.reference, seed=prepared.request.seed)
    return evaluator(after.to(device_of(prepared.task.model))).own


def _changed(prepared: Prepared, folder: Path) -> Iterator[str]:
    """Name what is not what the record says it was."""
    audit = read_audit(folder)
    if prepared.before.tensors != audit["model"]["before"]["tensors"]:
        yield "the model to start from"
    recorded, content = audit["data"]["parts"], prepared.parts.content
    for name in sorted(recorded.keys() | content.keys()):
        if recorded.get(name, {}).get("sha256") != content.get(name):
            yield f"the data of the {name} part"


def datasets(folder: Path) -> Mapping[str, Source]:
    """Return the data that a run's request names, by name, as it is now.

    Raises:
        InvalidInputError: it cannot be read.
    """
    request = read_request(folder / REQUEST, look=False)
    inputs, _ = inputs_of(request.model, request.data.inputs)
    found = load_sources(request.data, inputs)
    named = {"training": found.training, "holdout": found.holdout, "validation": found.validation}
    return {name: source for name, source in named.items() if source is not None}
