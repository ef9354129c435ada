"""Everything that a request for an image generator needs, loaded and checked before a folder is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from amnesty.errors import DataError, InvalidInputError
from amnesty.requests.audit import model_facts
from amnesty.requests.chain import Earlier, read_earlier
from amnesty.requests.concepts_request import ConceptRequest
from amnesty.requests.drawn_data import ConceptData, KeptData, Wanted, load_concept, load_kept
from amnesty.requests.judges import load_judges
from amnesty.requests.leaks import Changes, act, search
from amnesty.requests.loaded import quiet
from amnesty.requests.loaded_pipeline import LoadedPipeline
from amnesty.requests.of_concepts import PreparedConcepts
from amnesty.requests.pipelines import load_pipeline
from amnesty.requests.prepared import Tell
from amnesty.requests.prompt_hashes import Hashed, prompt_hash
from amnesty.requests.request import ModelSpec
from amnesty.tasks.diffusion import Concept, Diffusion
from amnesty.tasks.diffusion.arguments import checked_size
from amnesty.tasks.diffusion.families import family_of
from amnesty.tasks.diffusion.parts import parts_of


@dataclass(frozen=True, eq=False)
class _Data:
    """What is forgotten and kept, and notes on what was done to it."""

    concepts: Mapping[str, ConceptData]
    kept: KeptData
    notes: tuple[str, ...] = ()
    leaks: Changes | None = None


def prepare_concepts(request: ConceptRequest, device: torch.device, tell: Tell) -> PreparedConcepts:
    """Load and check everything that a request for an image generator names; nothing is written.

    Args:
        request: see `amnesty.requests.checking.read_request`.
        device: of the run.
        tell: gets a word on each thing that takes time.

    Raises:
        InvalidInputError: something cannot be read, or does not fit; see the functions called here.
        SplitError: copies of images to forget are among those kept, and the request says to refuse that.
        MissingExtraError: a package is missing.
        OSError: a file cannot be read.
    """
    tell("Reading the model")
    separate = request.diffusion.adapters == "separate"
    loaded = dataclasses.replace(load_pipeline(request.model), separate=separate)
    before = model_facts(loaded.files, loaded.model.state_dict(), loaded.describe)
    earlier = read_earlier(loaded.chain[0]) if loaded.chain else Earlier()
    earlier.check_start(before.tensors)
    loaded.to(device)
    tell("Reading the data")
    data = _left(request, _loaded(request, loaded), earlier)
    tell("Encoding images, or drawing them")
    with quiet():  # of prompts that are too long, errors tell
        task = _task(request, loaded, data)
        task.check()
    request.method.check(task)
    tell("Reading the judges")
    judges = load_judges(request, task, device)
    prepared = PreparedConcepts(
        request=request,
        loaded=loaded,
        task=task,
        before=before,
        earlier=earlier,
        concepts=data.concepts,
        kept=data.kept,
        leaks=data.leaks,
        judges=judges,
        warnings=(*data.notes, *_notes(request, loaded, judges is None)),
    )
    prepared.check_drawing()
    return prepared


def _loaded(request: ConceptRequest, loaded: LoadedPipeline) -> _Data:
    wanted = _wanted(request, loaded)
    concepts = {name: load_concept(spec, name, wanted) for name, spec in request.forget.items()}
    kept = load_kept(request.kept, wanted, not family_of(loaded.model).labels)
    return _Data(concepts, kept)


def _wanted(request: ConceptRequest, loaded: LoadedPipeline) -> Wanted:
    parts, given = parts_of(loaded.pipeline), request.diffusion.image_size
    return Wanted(parts.image_channels, checked_size(parts, given), given is not None)


def _left(request: ConceptRequest, data: _Data, earlier: Earlier) -> _Data:
    """Take out of what is kept whatever is to be forgotten, now or by earlier requests."""
    for name, concept in data.concepts.items():
        if concept.anchor is not None and prompt_hash(concept.anchor) in earlier.hashes:
            raise InvalidInputError(
                f"The anchor {concept.anchor!r} of {name!r} was forgotten by an earlier request: it cannot be drawn "
                "instead. Choose another."
            )
    asked = [prompt_hash(prompt) for concept in data.concepts.values() for prompt in concept.prompts]
    kept, *now = data.kept.without(asked)
    kept, *then = kept.without(tuple(earlier.hashes), tuple(earlier.hashes))
    notes = (*_taken(now, "they are to be forgotten"), *_taken(then, "earlier requests had forgotten them"))
    if not kept.prompts and not kept.rows:
        raise DataError("Nothing is kept: everything that `data.retain` has is to be forgotten, or was forgotten.")
    return _without_copies(request, dataclasses.replace(data, kept=kept, notes=notes))


def _taken(counts: list[int], why: str) -> list[str]:
    prompts, images = counts
    return [
        f"{count} {what} of what is kept were taken out: {why}."
        for what, count in (("prompts", prompts), ("images", images))
        if count
    ]


# Copies of images.


class _Alike(Dataset[Any]):
    """Images, all under one label: what a search for copies compares."""

    def __init__(self, images: Any) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._images[index][0], 0


def _without_copies(request: ConceptRequest, data: _Data) -> _Data:
    """Search the kept images for copies of those to forget, and do what the request says about them."""
    forget = {name: _Alike(concept.images) for name, concept in data.concepts.items() if concept.images is not None}
    if not forget or data.kept.images is None:
        return data
    near = tuple(kind for kind in request.duplicates.near if kind != "features")  # there is no classifier
    spec = dataclasses.replace(request.duplicates, near=near)
    parts = {"retain": _Alike(data.kept.dataset)}
    leaks = act(parts, search(forget, parts, spec, torch.nn.Identity(), workers=request.workers), spec)
    kept, rows = data.kept, leaks.keep.get("retain")
    concepts = {name: _joined(concept, leaks, kept, name) for name, concept in data.concepts.items()}
    if rows is not None:
        kept = dataclasses.replace(kept, rows=tuple(kept.rows[row] for row in rows))
    return dataclasses.replace(data, concepts=concepts, kept=kept, leaks=leaks)


def _joined(concept: ConceptData, leaks: Changes, kept: KeptData, name: str) -> ConceptData:
    """Return a concept with the copies that are to be forgotten, too."""
    if name not in leaks.add:
        return concept
    assert concept.images is not None
    assert kept.images is not None
    rows = [kept.rows[row] for row in leaks.add[name][1]]
    images: Dataset[Any] = ConcatDataset([concept.images, Subset(kept.images, rows)])
    hashes = (*concept.hashes, *(kept.images.facts[0][row] for row in rows))
    return dataclasses.replace(concept, images=images, hashes=hashes)


# The task.


def _task(request: ConceptRequest, loaded: LoadedPipeline, data: _Data) -> Diffusion:
    spec, kept = request.diffusion, data.kept
    return Diffusion(
        loaded.pipeline,
        forget={name: Concept(one.prompts, one.anchor, one.images) for name, one in data.concepts.items()},
        retain=kept.prompts if kept.images is None else kept.dataset,
        captions=kept.captions or None,
        **{
            key: getattr(spec, key)
            for key in ("train", "lora", "forget_loss", "retain_loss", "eta", "teacher", "drawing", "prompt_drop")
        },
        image_size=spec.image_size,
        gradient_checkpointing=spec.gradient_checkpointing,
        cache=spec.cache,
    )


def _notes(request: ConceptRequest, loaded: LoadedPipeline, unjudged: bool) -> list[str]:
    """Return what a reader of the result should know."""
    found = []
    if loaded.halved:
        kinds = " and ".join(loaded.describe["precision"])
        after = "are left as they are" if loaded.separate else "are saved, and scored, as they were"
        found.append(f"The weights are {kinds} in the files: they are trained as float32, and {after}.")
    if loaded.separate:
        found.append("The adapters are saved alone: whoever takes them off has the model that was before.")
    if unjudged:
        found.append("Nobody judges what is drawn: `evaluation` names no judge. There are pictures to look at.")
    return found


# For those who look again.


def kept_at_hand(request: ConceptRequest) -> Any:
    """Return what is at hand of what a request keeps, by hash: all of it, as it is now.

    Raises:
        InvalidInputError: it cannot be read.
    """
    spec: ModelSpec = request.model
    if request.kept.images is None:
        return Hashed(load_kept(request.kept, Wanted(3, (1, 1)), reads_texts=True).hashes)
    loaded = load_pipeline(spec)
    return Hashed(load_kept(request.kept, _wanted(request, loaded), not family_of(loaded.model).labels).hashes)
