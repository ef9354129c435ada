"""Whether what a request for an image generator names is there. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from amnesty.requests.concepts_request import ConceptSpec, DiffusionSpec, JudgingSpec, KeptSpec
from amnesty.requests.presence import Around, look_for_model, look_for_source
from amnesty.requests.request import SourceSpec
from amnesty.requests.selectors_from import ONE


def look_for_concepts(around: Around, parts: Mapping[str, Any]) -> None:
    """Look for everything that a request for an image generator names beside the model."""
    kept: KeptSpec | None = parts["kept"]
    if kept is not None:
        _look_for_file(around, ("data", "retain", "prompts_file"), kept.file)
        if kept.images is not None:
            look_for_source(around, ("data", "retain"), kept.images)
    for name, concept in parts["forget"].items():
        where = ("forget",) if name == ONE else ("forget", "sets", name)
        _look_for_file(around, (*where, "prompts_file"), concept.file)
        if concept.images is not None:
            _look_for_images(around, (*where, "images"), concept.images)
    diffusion: DiffusionSpec = parts["diffusion"]
    if diffusion.lora is not None:
        around.package(("diffusion", "lora"), "peft", "diffusion")
    if diffusion.cache is not None and diffusion.cache.exists():
        around.folder(("diffusion", "cache"), diffusion.cache)
    _look_for_judges(around, parts["evaluation"])


def _look_for_judges(around: Around, spec: JudgingSpec) -> None:
    if spec.judge is not None:
        look_for_model(around, spec.judge.model, key=("evaluation", "judge"))
    if spec.real is not None:
        _look_for_images(around, ("evaluation", "real"), spec.real)
    if spec.features is not None:
        around.function(("evaluation", "features"), spec.features)
    if spec.clip is not None and around.folder(("evaluation", "clip"), spec.clip):
        around.package(("evaluation", "clip"), "transformers", "clip")
    if spec.nudity:
        around.package(("evaluation", "nudity"), "nudenet", "nudity")


def _look_for_file(around: Around, path: tuple[str, ...], file: Path | None) -> None:
    if file is not None and around.file(path, file) and file.stat().st_size == 0:
        around.add(path, f"is an empty file: {file}.")


def _look_for_images(around: Around, section: tuple[str, ...], spec: SourceSpec) -> None:
    """Look for images whose labels do not matter: a folder of them may have no folders in it."""
    if spec.kind != "images":
        look_for_source(around, section, spec)
    elif around.package((*section, "images"), "PIL", "data"):
        around.folder((*section, "images"), Path(spec.name))


def concept_files(parts: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Give the name and the path of every file that such a request reads, and the sources with their names."""
    kept: KeptSpec | None = parts["kept"]
    if kept is not None and kept.file is not None:
        yield "data.retain.prompts_file", kept.file
    for concept in parts["forget"].values():
        if concept.file is not None:
            yield "forget.prompts_file", concept.file
    if parts["evaluation"].clip is not None:
        yield "evaluation.clip", parts["evaluation"].clip


def concept_sources(parts: Mapping[str, Any]) -> Iterator[tuple[str, SourceSpec]]:
    """Give the name of every source of images that such a request reads, and the source."""
    kept: KeptSpec | None = parts["kept"]
    forget: Mapping[str, ConceptSpec] = parts["forget"]
    named = {"data.retain": None if kept is None else kept.images}
    named |= {f"forget.{name}.images": concept.images for name, concept in forget.items()}
    named["evaluation.real"] = parts["evaluation"].real
    yield from ((name, source) for name, source in named.items() if source is not None)
