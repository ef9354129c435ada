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
from amnesty.requests.pictures import load_pixels
from amnesty.requests.preparing import Prepared, prepare, read_again
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
    evaluator = Evaluator(prepared.task, prepared.reference, seed=prepared.request.seed)
    return evaluator(read_again(prepared, folder)).own


def _changed(prepared: Prepared, folder: Path) -> Iterator[str]:
    """Name what is not what the record says it was."""
    audit = read_audit(folder)
    if prepared.before.tensors != audit["model"]["before"]["tensors"]:
        yield "the model to start from"
    if prepared.before.about.get("processor") != audit["model"]["before"]["about"].get("processor"):
        yield "its tokenizer or image processor"
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
    found = _sources(request)
    named = {"training": found.training, "holdout": found.holdout, "validation": found.validation}
    return {name: source for name, source in named.items() if source is not None}


def _sources(request: Request) -> Sources:
    if request.zero_shot is not None:
        return load_pixels(request.data, load_towers(request.model).processor[1])
    inputs, _ = inputs_of(request.model, request.data.inputs)
    return load_sources(request.data, inputs)
