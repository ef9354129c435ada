"""A folder that ``save_pretrained`` of a pipeline wrote: what is in it, looked at before anything is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from amnesty.errors import MissingExtraError, ModelError, one_line
from amnesty.requests.loaded import INDEX
from amnesty.requests.pretrained import read_json

UNSAFE = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
"""Endings of files whose reading may run code."""

UNUSED = ("safety_checker", "image_encoder")
"""Parts that look at images that were drawn, or are shown: nobody is shown any here. They go with the result."""

_BASES = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
_FAVOURITE = ("fp16", "bf16")
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_COUNTS = ("I64", "I32", "I16", "U8", "BOOL")  # such as positions; no weight is one


@dataclass(frozen=True)
class Weights:
    """The safetensors files of a part, and which variant of its weights they are (``None``: the plain one)."""

    files: tuple[Path, ...]
    variant: str | None = None

    def plainly_named(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """Yield the files, and the list of those that are in pieces, each with the name of a plain one."""
        mark = "" if self.variant is None else f".{self.variant}"
        if len(self.files) == 1:
            yield self.files[0].name.replace(f"{mark}.safetensors", ".safetensors"), self.files[0]
            return
        yield from ((path.name, path) for path in self.files)  # which the list names
        for path in folder.glob(f"*.safetensors.index{mark}.json"):
            yield path.name.replace(f"{mark}.json", ".json"), path

    @property
    def types(self) -> dict[str, str]:
        """Name of a tensor -> its type, as safetensors calls it. Only the heads of the files are read.

        Raises:
            ModelError: a file is missing, damaged or cut short.
        """
        found: dict[str, str] = {}
        for path in self.files:
            try:
                with safe_open(path, framework="pt") as file:
                    found |= {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"{path} cannot be read as weights: it is missing, damaged or cut short ({one_line(error)})."
                ) from error
        return found


@dataclass(frozen=True)
class Part:
    """A part of a pipeline: a folder in its folder.

    Attributes:
        name: such as ``unet``.
        kind: its class.
        folder: of it.
        library: that has the class.
        weights: ``None`` where it has none, such as a scheduler.
    """

    name: str
    kind: Any
    folder: Path
    library: str
    weights: Weights | None


@dataclass(frozen=True)
class PipelineFolder:
    """What a folder of a pipeline says of itself.

    Attributes:
        path: of the folder.
        kind: class of the pipeline.
        parts: by name, those that there are.
    """

    path: Path
    kind: Any
    parts: Mapping[str, Part]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of weights of all parts that are used."""
        used = (part.weights for name, part in sorted(self.parts.items()) if name not in UNUSED)
        return tuple(path for weights in used if weights is not None for path in sorted(weights.files))

    def beside(self) -> Iterator[Path]:
        """Yield the other files that belong to it: configurations, vocabularies, and the index of its parts."""
        yield self.path / INDEX
        for part in self.parts.values():
            for path in sorted(part.folder.iterdir()):
                if path.is_file() and _is_plain_data(path):
                    yield path


def _is_plain_data(path: Path) -> bool:
    other = (*UNSAFE, ".py", ".safetensors", ".msgpack", ".h5", ".onnx", ".onnx_data", ".xml")
    return path.suffix not in other and not path.name.endswith(".index.json") and not path.name.startswith(".")


def library() -> Any:
    """Return diffusers.

    Raises:
        MissingExtraError: it is not installed.
        ModelError: it does not load beside this PyTorch.
    """
    try:
        found = importlib.import_module("diffusers")
        _ = found.DiffusionPipeline  # which is where it loads the most
    except ModuleNotFoundError as error:
        raise MissingExtraError("diffusers", "diffusion", "A folder of an image generator") from error
    except (ImportError, RuntimeError, AttributeError) as error:
        raise ModelError(f"diffusers cannot be loaded here: {one_line(error, named=False)}") from error
    return found


def looked_at(folder: Path) -> PipelineFolder:
    """Return what is in a folder of a pipeline; nothing of it is loaded, and no code in it is run.

    Raises:
        MissingExtraError: diffusers is not installed.
        ModelError: it is no such folder, names code of its own or classes that are not known, or a part has no
            weights in safetensors, or quantised ones.
    """
    if not (folder / INDEX).is_file():
        raise ModelError(f"{folder} is no folder that `save_pretrained` of a pipeline wrote: it has no {INDEX}.")
    index = read_json(folder / INDEX)
    kind = _pipeline_class(index.get("_class_name"), folder)
    named = {name: value for name, value in index.items() if name[0] != "_" and isinstance(value, list)}
    given = {name: value for name, value in named.items() if value != [None, None]}
    parts = {name: _part(folder, name, value, kind) for name, value in given.items()}
    if not any(name in parts for name in ("unet", "transformer")):
        raise ModelError(f"{folder} has no `unet` and no `transformer`: there is nothing in it that could unlearn.")
    return PipelineFolder(folder, kind, parts)


def _pipeline_class(name: Any, folder: Path) -> Any:
    diffusers = library()
    kind = _attribute(diffusers, name) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ModelError(
            f"{folder / INDEX} names the pipeline {name!r}, which `diffusers` {diffusers.__version__} does not have: "
            "it brings code of its own, which is not run. Make the pipeline by `import:`."
        )
    return kind


def _part(folder: Path, name: str, value: list[Any], pipeline: Any) -> Part:
    where = f"{folder / INDEX}: `{name}`"
    if len(value) != 2 or not all(isinstance(one, str) for one in value) or PurePath(name).name != name:
        raise ModelError(f"{where} must name a library and a class of it, found {value!r}.")
    own = folder / name
    if not own.is_dir():
        raise ModelError(f"{folder} has no folder {name!r}, which its {INDEX} names.")
    kind = _class_of(value[0], value[1])
    config = next((own / file for file in ("config.json", "tokenizer_config.json") if (own / file).is_file()), None)
    said = {} if config is None else read_json(config)
    if "auto_map" in said:
        raise ModelError(
            f"{own} brings code of its own (`auto_map`), which is not run. Make the pipeline by `import:`."
        )
    if kind is None:
        raise ModelError(
            f"{where} is {'.'.join(value)}, which neither `diffusers` nor `transformers` has: it brings code of its "
            "own, which is not run. Make the pipeline by `import:`."
        )
    if said.get("quantization_config"):
        raise ModelError(f"{own} holds quantised weights, which cannot be trained. Give the original ones.")
    weights = _weights(own, kind) if issubclass(kind, torch.nn.Module) else None
    return Part(name, kind, own, _home(kind), weights)


def _class_of(module: str, name: str) -> Any:
    """Return a class of one of the two libraries; ``None`` for one that is none of theirs."""
    diffusers = library()
    if module == "transformers":
        found = _attribute(importlib.import_module("transformers"), name)
    elif module == "diffusers":
        found = _attribute(diffusers, name)
    else:  # a folder of diffusers with classes for one kind of pipeline
        found = _attribute(_attribute(diffusers.pipelines, module), name)
    return found if isinstance(found, type) and _home(found) in _BASES else None


def _home(kind: type) -> str:
    if issubclass(kind, torch.nn.Module) and hasattr(kind, "base_model_prefix"):
        return "transformers"  # wherever it is written
    return kind.__module__.partition(".")[0]


def _attribute(module: Any, name: str) -> Any:
    try:
        return getattr(module, name, None)
    except (ImportError, RuntimeError) as error:  # built for another PyTorch
        raise ModelError(f"{name} cannot be loaded here: {one_line(error, named=False)}") from error


def _weights(folder: Path, kind: Any) -> Weights:
    """Return the weights of a part: the plain ones, or where there are none a variant, such as those in half."""
    base = _BASES[_home(kind)]
    found = dict(_variants(folder, base))
    if not found:
        unsafe = [path.name for path in sorted(folder.iterdir()) if path.suffix in UNSAFE]
        reason = f"but only {unsafe[0]}, whose reading may run code" if unsafe else "nor any other weights"
        raise ModelError(
            f"{folder} has no {base}.safetensors, {reason}. Save the pipeline again with "
            "`pipe.save_pretrained(folder, safe_serialization=True)` where you trust it."
        )
    first = [variant for variant in (None, *_FAVOURITE) if variant in found]
    variant = first[0] if first else sorted(name for name in found if name is not None)[0]
    return Weights(found[variant], variant)


def _variants(folder: Path, base: str) -> Iterator[tuple[str | None, tuple[Path, ...]]]:
    for path in sorted(folder.glob(f"{base}*.safetensors")):
        middle = path.name[len(base) : -len(".safetensors")]
        if middle == "" or (middle[0] == "." and "-of-" not in middle):
            yield middle[1:] or None, (path,)
    for path in sorted(folder.glob(f"{base}.safetensors.index*.json")):
        variant = path.name[len(f"{base}.safetensors.index") : -len(".json")]
        listed = read_json(path).get("weight_map")
        names = sorted(set(listed.values())) if isinstance(listed, dict) else []
        if not names or not all(isinstance(name, str) and PurePath(name).name == name for name in names):
            raise ModelError(f"{path} must have a `weight_map` to files of its own folder.")
        yield variant[1:] or None, tuple(folder / name for name in names)


def float_types(weights: Weights, where: Path) -> dict[str, torch.dtype]:
    """Return name of a tensor -> its type, of those that hold weights.

    Raises:
        ModelError: a tensor has a type in which nothing is trained, such as 8 bits.
    """
    types = weights.types
    strange = [name for name, kind in types.items() if kind not in _TYPES and kind not in _COUNTS]
    if strange:
        raise ModelError(
            f"{where} holds {types[strange[0]]} in {strange[0]!r}: quantised weights cannot be trained. Give the "
            "original ones."
        )
    return {name: _TYPES[kind] for name, kind in types.items() if kind in _TYPES}
