"""A request as plain values, every choice written out: what a result's request.yaml holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amnesty.methods import Method
from amnesty.requests.concepts_from import INCEPTION
from amnesty.requests.concepts_request import ConceptSpec, DiffusionSpec, JudgeSpec, JudgingSpec, KeptSpec
from amnesty.requests.methods_from import plain_method
from amnesty.requests.request import (
    DataSpec,
    InputsSpec,
    ModelSpec,
    SignSpec,
    SourceSpec,
    TaskKind,
    TransferSpec,
    ZeroShotSpec,
)
from amnesty.requests.selectors_from import ONE, plain_forget, plain_selector
from amnesty.requests.vocabulary import (
    CAPTIONED,
    DIFFUSION,
    EVALUATION,
    IMAGES,
    JUDGE,
    KEPT,
    SOURCE,
    ZERO_SHOT,
    Kinds,
    model_kinds,
    sections_of,
)


def document_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a request from its fields by name, all but ``document``."""
    plain = {**parts}
    method: Method = plain["method"]
    plain["model"] = plain_model(parts["model"], parts["task"])
    plain["method"] = plain_method(method, plain.pop("tuned"))
    plain |= _of_concepts(parts) if parts["task"] == "diffusion" else _of_examples(parts)
    plain["duplicates"] = {**dataclasses.asdict(parts["duplicates"]), "near": list(parts["duplicates"].near)}
    plain["checkpoint"] = dataclasses.asdict(parts["checkpoint"])
    plain["trackers"] = list(parts["trackers"])
    plain["sign"] = _sign(parts["sign"])
    plain["out"] = str(parts["out"])
    return {key: plain[key] for key in sections_of(parts["task"])}


def _of_examples(parts: Mapping[str, Any]) -> dict[str, Any]:
    zero_shot = parts["zero_shot"]
    return {
        "data": plain_data(parts["data"]),
        "zero_shot": None if zero_shot is None else plain_zero_shot(zero_shot),
        "forget": plain_forget(parts["forget"]),
        "reference": _text(parts["reference"]),
    }


def _of_concepts(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data": {"retain": plain_kept(parts["kept"])},
        "forget": plain_concepts(parts["forget"]),
        "diffusion": plain_diffusion(parts["diffusion"]),
        "evaluation": plain_evaluation(parts["evaluation"]),
    }


def plain_model(spec: ModelSpec, task: TaskKind = "classification") -> dict[str, Any]:
    """Return which model, as a request writes it."""
    rest = {"weights": _text(spec.weights), "classes": spec.classes, "options": dict(spec.options)}
    return {spec.kind: spec.name, **{key: rest[key] for key in model_kinds(task)[spec.kind]}}


def plain_data(spec: DataSpec) -> dict[str, Any]:
    """Return which data, as a request writes it."""
    plain: dict[str, Any] = {"training": plain_source(spec.training), "holdout": None}
    if isinstance(spec.holdout, SourceSpec):
        plain["holdout"] = plain_source(spec.holdout)
    elif spec.holdout is not None:
        plain["holdout"] = {"rows": plain_selector(spec.holdout)}
    shared = isinstance(spec.validation, SourceSpec)
    plain["validation"] = plain_source(spec.validation) if shared else spec.validation  # type: ignore[arg-type]
    plain["inputs"] = plain_inputs(spec.inputs)
    return plain


def plain_inputs(spec: InputsSpec) -> dict[str, Any]:
    """Return how images become inputs, as a request writes it."""
    found = dataclasses.asdict(spec)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def plain_source(spec: SourceSpec, kinds: Kinds = SOURCE) -> dict[str, Any]:
    """Return where examples come from, as a request writes it."""
    rest = {**dataclasses.asdict(spec), "options": dict(spec.options)}
    return {spec.kind: spec.name, **{key: rest[key] for key in kinds[spec.kind]}}


def plain_zero_shot(spec: ZeroShotSpec) -> dict[str, Any]:
    """Return what a zero-shot task needs beside model and data, as a request writes it."""
    plain: dict[str, Any] = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    for key in ("class_names", "templates", "paraphrases", "retain_loss"):
        plain[key] = list(plain[key]) if plain[key] else None
    plain["lora"] = dict(spec.lora) if isinstance(spec.lora, Mapping) else spec.lora
    plain["bank"] = str(spec.bank) if isinstance(spec.bank, Path) else list(spec.bank) or None
    plain["transfers"] = {name: _plain_transfer(one) for name, one in spec.transfers.items()} or None
    plain |= {key: plain_source(source, CAPTIONED) for key, source in spec.captioned.items()}
    return {key: plain[key] for key in ZERO_SHOT}


def _plain_transfer(spec: TransferSpec) -> dict[str, Any]:
    names = None if spec.class_names is None else list(spec.class_names)
    return {**plain_source(spec.data), "class_names": names, "templates": list(spec.templates)}


def plain_concepts(concepts: Mapping[str, ConceptSpec]) -> dict[str, Any]:
    """Return the concepts that a generator forgets, as a request writes them."""
    if list(concepts) == [ONE]:
        return _plain_concept(concepts[ONE])
    return {"sets": {name: _plain_concept(concept) for name, concept in concepts.items()}}


def _plain_concept(spec: ConceptSpec) -> dict[str, Any]:
    asked = {"prompts": list(spec.prompts)} if spec.file is None else {"prompts_file": str(spec.file)}
    return {**asked, "anchor": spec.anchor, "images": _plain_images(spec.images)}


def plain_kept(spec: KeptSpec) -> dict[str, Any]:
    """Return what a generator keeps, as a request writes it."""
    if spec.images is None:
        return {"prompts": list(spec.prompts)} if spec.file is None else {"prompts_file": str(spec.file)}
    plain = plain_source(spec.images, {spec.images.kind: _beside_kept(spec)})
    names = None if spec.class_names is None else list(spec.class_names)
    return {**plain, "templates": list(spec.templates) or None, "class_names": names}


def _beside_kept(spec: KeptSpec) -> tuple[str, ...]:
    assert spec.images is not None
    other = "caption_column" if spec.labelled else "label_column"
    return tuple(key for key in KEPT[spec.images.kind] if key not in (other, "templates", "class_names"))


def plain_diffusion(spec: DiffusionSpec) -> dict[str, Any]:
    """Return how a generator is unlearned, as a request writes it."""
    plain: dict[str, Any] = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    plain["lora"] = dict(spec.lora) if isinstance(spec.lora, Mapping) else spec.lora
    plain["drawing"] = dataclasses.asdict(spec.drawing)
    plain["image_size"] = None if spec.image_size is None else list(spec.image_size)
    plain["cache"] = _text(spec.cache)
    return {key: plain[key] for key in DIFFUSION}


def plain_evaluation(spec: JudgingSpec) -> dict[str, Any]:
    """Return how what is drawn is judged, as a request writes it."""
    plain: dict[str, Any] = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    plain["judge"] = None if spec.judge is None else _plain_judge(spec.judge)
    plain["real"] = _plain_images(spec.real)
    plain["features"] = spec.features or (INCEPTION if spec.real is not None else None)
    plain["clip"] = _text(spec.clip)
    return {key: plain[key] for key in EVALUATION}


def _plain_judge(spec: JudgeSpec) -> dict[str, Any]:
    model = spec.model
    rest = {"weights": _text(model.weights), "options": dict(model.options) or None}
    plain: dict[str, Any] = {model.kind: model.name, **{key: rest[key] for key in JUDGE[model.kind] if key in rest}}
    for key in ("class_names", "among"):
        value = getattr(spec, key)
        plain[key] = None if value is None else list(value)
    return {**plain, "classes": dict(spec.classes), "inputs": plain_inputs(spec.inputs)}


def _plain_images(spec: SourceSpec | None) -> dict[str, Any] | None:
    return None if spec is None else plain_source(spec, IMAGES)


def _sign(spec: SignSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    return {"sigstore": True} if spec.key is None else {"key": str(spec.key)}


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
