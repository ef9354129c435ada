"""Where a request's result goes, and what must not lie there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from amnesty.requests.concepts_presence import concept_files, concept_sources
from amnesty.requests.concepts_request import JudgingSpec
from amnesty.requests.presence import Around, files_of
from amnesty.requests.request import DataSpec, ModelSpec, SourceSpec, ZeroShotSpec


def look_for_destination(around: Around, out: Path, request: Path, parts: Mapping[str, Any]) -> None:
    """Note a folder that cannot be written to, or in which the result would meet what the request reads."""
    key = ("out",)
    try:
        _look(around, key, out)
    except OSError as error:
        around.add(key, f"cannot be looked at: {error}.")
        return
    real = _real(out)
    for name, path in files_read(parts):
        read = _real(path)
        if real == read or read in real.parents:
            around.add(key, f"must not be in what is read: {out} is in `{name}`, {path}. Choose another with `out`.")
        elif real in read.parents:
            around.add(key, f"must not hold what is read, but `{name}`, {path}, is in it.")
    # A run that was stopped may go on from the request that lies in its own folder.
    if _real(request).parent == real and not (real / "checkpoint").is_dir():
        around.add(key, f"must be a folder of its own, but {out} holds {request.name} itself.")


def _look(around: Around, key: tuple[str, ...], out: Path) -> None:
    if out.is_symlink() and not out.exists():
        around.add(key, f"must be a folder, but {out} is a link that leads nowhere.")
    elif out.exists() and not out.is_dir():
        around.add(key, f"must be a folder, but {out} is a file.")
    elif not out.exists() and not out.parent.is_dir():
        around.add(key, f"must be in a folder that exists, but there is no folder {out.parent}.")
    else:
        target = out if out.exists() else out.parent
        if not os.access(target, os.W_OK | os.X_OK):
            around.add(key, f"must be a folder that can be written to: you may not write to {target}.")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # before Python 3.13 `Path.resolve` fails for links in a circle


def files_read(parts: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Give the name and the path of every file and folder that a request reads."""
    model: ModelSpec | None = parts.get("model")
    data: DataSpec | None = parts.get("data")
    if model is not None:
        yield from _model_files("model", model)
    for key in ("training", "holdout", "validation"):
        source = getattr(data, key, None)
        if isinstance(source, SourceSpec):
            yield from _source_files(f"data.{key}", source)
        elif source is not None:
            yield from ((f"data.{key}.rows.{kind}", file) for kind, file in files_of(source))
    if parts.get("zero_shot") is not None:
        yield from _zero_shot_files(parts["zero_shot"])
    if parts.get("task") == "diffusion":
        yield from _concept_files(parts)
    else:
        for selector in parts["forget"].values():
            yield from ((f"forget.{kind}", file) for kind, file in files_of(selector))
    if parts.get("reference") is not None:
        yield "reference", parts["reference"]
    if parts.get("sign") is not None and parts["sign"].key is not None:
        yield "sign.key", parts["sign"].key


def _model_files(name: str, model: ModelSpec) -> Iterator[tuple[str, Path]]:
    if model.weights is not None:
        yield f"{name}.weights", model.weights
    if model.kind in ("huggingface", "diffusers", "run"):
        yield f"{name}.{model.kind}", Path(model.name)
    elif model.kind == "import":
        yield from _function_file(f"{name}.import", model.name)


def _source_files(name: str, source: SourceSpec) -> Iterator[tuple[str, Path]]:
    if source.kind in ("parquet", "images"):
        yield f"{name}.{source.kind}", Path(source.name)
    elif source.kind == "import":
        yield from _function_file(f"{name}.import", source.name)


def _zero_shot_files(spec: ZeroShotSpec) -> Iterator[tuple[str, Path]]:
    if isinstance(spec.bank, Path):
        yield "zero_shot.bank", spec.bank
    for name, transfer in spec.transfers.items():
        yield from _source_files(f"zero_shot.transfers.{name}", transfer.data)
    for key, source in spec.captioned.items():
        yield from _source_files(f"zero_shot.{key}", source)


def _concept_files(parts: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    yield from concept_files(parts)
    for name, source in concept_sources(parts):
        yield from _source_files(name, source)
    spec: JudgingSpec = parts["evaluation"]
    if spec.judge is not None:
        yield from _model_files("evaluation.judge", spec.judge.model)
    if spec.features is not None:
        yield from _function_file("evaluation.features", spec.features)


def _function_file(name: str, function: str) -> Iterator[tuple[str, Path]]:
    where = function.rpartition(":")[0]
    if where.endswith(".py"):
        yield name, Path(where)
