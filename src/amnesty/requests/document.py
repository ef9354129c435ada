"""A request as plain values, every choice written out: what a result's request.yaml holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amnesty.methods import Method
from amnesty.requests.methods_from import plain_method
from amnesty.requests.request import DataSpec, ModelSpec, SignSpec, SourceSpec, TaskKind, TransferSpec, ZeroShotSpec
from amnesty.requests.selectors_from import plain_forget, plain_selector
from amnesty.requests.vocabulary import CAPTIONED, SECTIONS, SOURCE, ZERO_SHOT, Kinds, model_kinds


def document_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a request from its fields by name, all but ``document``."""
    plain = {**parts}
    method: Method = plain["method"]
    plain["model"] = plain_model(parts["model"], parts["task"])
    plain["data"] = plain_data(parts["data"])
    plain["zero_shot"] = None if parts["zero_shot"] is None else plain_zero_shot(parts["zero_shot"])
    plain["forget"] = plain_forget(parts["forget"])
    plain["method"] = plain_method(method, plain.pop("tuned"))
    plain["reference"] = _text(parts["reference"])
    plain["duplicates"] = {**dataclasses.asdict(parts["duplicates"]), "near": list(parts["duplicates"].near)}
    plain["checkpoint"] = dataclasses.asdict(parts["checkpoint"])
    plain["trackers"] = list(parts["trackers"])
    plain["sign"] = _sign(parts["sign"])
    plain["out"] = str(parts["out"])
    return {key: plain[key] for key in SECTIONS}


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
    inputs = dataclasses.asdict(spec.inputs)
    plain["inputs"] = {key: list(value) if isinstance(value, tuple) else value for key, value in inputs.items()}
    return plain


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


def _sign(spec: SignSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    return {"sigstore": True} if spec.key is None else {"key": str(spec.key)}


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
