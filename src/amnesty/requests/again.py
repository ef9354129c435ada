"""A finished run, read again: its model on the data that its request names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from amnesty.errors import InvalidInputError
from amnesty.requests.audit import read_audit
from amnesty.requests.checking import read_request
from amnesty.requests.concepts_request import ConceptRequest
from amnesty.requests.digests import REQUEST
from amnesty.requests.inputs import inputs_of
from amnesty.requests.pictures import load_pixels
from amnesty.requests.prepared import Prepared
from amnesty.requests.preparing import prepare
from amnesty.requests.preparing_concepts import kept_at_hand
from amnesty.requests.request import Request
from amnesty.requests.sources import Sources, load_sources
from amnesty.requests.towers import load_towers
from amnesty.tasks import Source


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
    return prepared.scored_again(folder)


def _changed(prepared: Prepared, folder: Path) -> Iterator[str]:
    """Name what is not what the record says it was."""
    audit = read_audit(folder)
    if prepared.before.tensors != audit["model"]["before"]["tensors"]:
        yield "the model to start from"
    yield from prepared.changed(audit)


def datasets(folder: Path) -> Mapping[str, Source]:
    """Return the data that a run's request names, by name, as it is now.

    Raises:
        InvalidInputError: it cannot be read.
    """
    request = read_request(folder / REQUEST, look=False)
    if isinstance(request, ConceptRequest):
        return {"retain": kept_at_hand(request)}
    assert isinstance(request, Request)
    found = _sources(request)
    named = {"training": found.training, "holdout": found.holdout, "validation": found.validation}
    return {name: source for name, source in named.items() if source is not None}


def _sources(request: Request) -> Sources:
    if request.zero_shot is not None:
        return load_pixels(request.data, load_towers(request.model).processor[1])
    inputs, _ = inputs_of(request.model, request.data.inputs)
    return load_sources(request.data, inputs)
