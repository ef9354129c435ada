"""Everything that a run needs, loaded and checked before a folder is made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from amnesty.methods.negotiated import Negotiated
from amnesty.requests.audit import model_facts
from amnesty.requests.chain import Earlier, read_earlier
from amnesty.requests.concepts_request import ConceptRequest
from amnesty.requests.inputs import inputs_of
from amnesty.requests.knowing import check_knows
from amnesty.requests.leaks import Changes, act, search
from amnesty.requests.loaded import LoadedModel
from amnesty.requests.models import load_model
from amnesty.requests.of_examples import PreparedExamples
from amnesty.requests.parts import Parts, make_parts, make_task
from amnesty.requests.pictures import load_pixels
from amnesty.requests.prepared import Prepared, Tell
from amnesty.requests.preparing_concepts import prepare_concepts
from amnesty.requests.request import BaseRequest, Request
from amnesty.requests.signing import check_sign
from amnesty.requests.sources import Sources, load_sources
from amnesty.requests.towers import load_towers
from amnesty.requests.tracking import check_trackers
from amnesty.requests.zero_shot import load_beside, make_zero_shot
from amnesty.tasks import Classification, device_of, usable_device
from amnesty.tasks.zero_shot import ZeroShot
from amnesty.weights import load_weights


def prepare(request: BaseRequest, tell: Tell = lambda word: None) -> Prepared:
    """Load and check everything that a request names; nothing is written.

    Args:
        request: see `amnesty.requests.checking.read_request`.
        tell: gets a word on each thing that takes time.

    Raises:
        InvalidInputError: something cannot be read, or does not fit; see the functions called here.
        SplitError: copies of the forget set are among the rest, and the request says to refuse that.
        MissingExtraError: a package is missing.
        OSError: a file cannot be read.
    """
    check_trackers(request.trackers)
    if request.sign is not None:
        check_sign(request.sign)
    if isinstance(request, ConceptRequest):
        return prepare_concepts(request, device_for(request.device), tell)
    assert isinstance(request, Request)
    return _prepare_examples(request, tell)


def _prepare_examples(request: Request, tell: Tell) -> PreparedExamples:
    loaded, sources, make = _loaded(request, tell)
    before = model_facts(loaded.files, loaded.model.state_dict(), loaded.describe)
    earlier = read_earlier(loaded.chain[0]) if loaded.chain else Earlier()
    earlier.check_start(before.tensors)
    loaded.model.to(device_for(request.device))
    tell("Choosing the parts")
    parts, taken = _without_earlier(make_parts(request, sources), earlier)
    task = make(parts, duplicates="keep")
    check_knows(task, request.model.classes)
    tell("Looking for copies of what is to be forgotten")
    parts, leaks = _without_copies(parts, request, task.model)
    if leaks.keep or leaks.add or not isinstance(task, ZeroShot):  # which has looked at all its images
        task = make(parts, duplicates=leaks.duplicates)
    task.check()
    request.method.check(task)
    warnings = (*_copies_left(leaks), *_taken_out(taken), *_blind_spots(request, task))
    return PreparedExamples(
        request=request,
        loaded=loaded,
        sources=sources,
        parts=parts,
        task=task,
        reference=_reference(request, loaded, task),
        before=before,
        earlier=earlier,
        leaks=leaks,
        warnings=warnings,
    )


def _loaded(request: Request, tell: Tell) -> tuple[LoadedModel, Sources, Callable[..., Classification]]:
    """Return model and data, and what makes a task of them and of parts."""
    if request.zero_shot is None:
        tell("Reading the data")
        inputs, _ = inputs_of(request.model, request.data.inputs)
        sources = load_sources(request.data, inputs)
        tell("Reading the model")
        loaded = load_model(request.model, sources.classes)
        return loaded, sources, partial(make_task, loaded)
    tell("Reading the model")
    towers = replace(load_towers(request.model), separate=request.zero_shot.adapters == "separate")
    tell("Reading the data")
    sources, beside = load_pixels(request.data, towers.processor[1]), load_beside(request.zero_shot)
    make = partial(make_zero_shot, towers, spec=request.zero_shot, beside=beside)
    return towers, sources, make


def device_for(name: str) -> torch.device:
    """Return the device of a request; ``"auto"`` is a CUDA device where there is one, else the CPU.

    Raises:
        InvalidInputError: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return usable_device(name)


def _without_earlier(parts: Parts, earlier: Earlier) -> tuple[Parts, dict[str, int]]:
    """Take what earlier requests forgot out of all that a new one would teach again, or take for unseen."""
    if not earlier.hashes:
        return parts, {}
    gone = {name: np.array([one in earlier.hashes for one in parts.hashes[name]], dtype=bool) for name in parts.rest}
    counts = {name: int(mine.sum()) for name, mine in gone.items() if mine.any()}
    return parts.changed({name: np.flatnonzero(~gone[name]) for name in counts}), counts


def _without_copies(parts: Parts, request: Request, model: nn.Module) -> tuple[Parts, Changes]:
    """Search for copies of the forget set among the rest, and do what the request says about them."""
    rest = {name: parts[name] for name in parts.rest}
    forget = {name: parts[name] for name in parts.forget}
    found = search(forget, rest, request.duplicates, model, workers=request.workers)
    changes = act(rest, found, request.duplicates, workers=request.workers)
    return parts.changed(changes.keep, changes.add), changes


def _copies_left(leaks: Changes) -> list[str]:
    """Return what the search leaves open."""
    found = []
    clear, possible = leaks.found.clear, len(leaks.found.copies) - len(leaks.found.clear)
    if leaks.action == "keep" and clear:
        found.append(f"{len(clear)} copies of what was to be forgotten were left among the rest, as requested.")
    if possible:
        found.append(f"{possible} examples may be copies of what was to be forgotten; they were left where they are.")
    if not leaks.settled:
        found.append("The search for copies of copies was given up before it came to an end.")
    return [*found, *(f"Copies by {kind} were not searched for: {why}" for kind, why in leaks.found.skipped.items())]


def _taken_out(counts: Mapping[str, int]) -> list[str]:
    return [
        f"{count} examples of the {name} set were taken out: earlier requests had forgotten them."
        for name, count in counts.items()
    ]


def _blind_spots(request: Request, task: Classification) -> list[str]:
    """Return what this run cannot know or cannot show."""
    found = []
    if "holdout" not in task.parts and "validation" not in task.parts:
        found.append("There are no unseen examples: no test can tell whether the forgotten ones still stand out.")
    elif "holdout" not in task.parts:
        found.append("There is no holdout part: the scores use the validation part, which the method may have read.")
    method = request.method
    wished = isinstance(task, ZeroShot) and task.forget_loss != "auto"
    if isinstance(method, Negotiated) and method.wish == "auto" and not task.knows_unseen and not wished:
        found.append(
            "Without unseen data the method cannot know when an example looks forgotten, and teaches random labels."
        )
    return found


def _reference(request: Request, loaded: LoadedModel, task: Classification) -> nn.Module | None:
    if request.reference is None:
        return None
    model: Any = copy.deepcopy(loaded.model).cpu()
    load_weights(request.reference, model)
    model = model.to(device_of(loaded.model)).eval()
    return task.classifier(model) if isinstance(task, ZeroShot) else model
