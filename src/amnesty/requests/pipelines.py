"""The model of a request for an image generator: a pipeline, from files that are only read."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amnesty.errors import InvalidInputError, ModelError, one_line
from amnesty.requests.audit import model_facts, read_audit
from amnesty.requests.digests import weight_files
from amnesty.requests.loaded import ADAPTER, PIPELINE, quiet
from amnesty.requests.loaded_pipeline import LoadedPipeline, modules_of
from amnesty.requests.models import refuse_unfilled, trace
from amnesty.requests.pipeline_folder import UNUSED, Part, PipelineFolder, float_types, looked_at
from amnesty.requests.request import ModelSpec
from amnesty.seeds import seeded
from amnesty.studies.calling import call
from amnesty.tasks.diffusion import Denoiser
from amnesty.tasks.diffusion.adapters import load_adapters
from amnesty.tasks.diffusion.families import family_of
from amnesty.tasks.diffusion.parts import parts_of, with_part
from amnesty.weights.fitting import refuse_not_finite


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep libraries from printing, and from warning of what they mend themselves, such as old configurations."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_pipeline(spec: ModelSpec) -> LoadedPipeline:
    """Load an image generator.

    Args:
        spec: of kind ``"diffusers"``, ``"import"`` or ``"run"``.

    Raises:
        ModelError: it is no pipeline, has no weights in safetensors, names code of its own, or its weights are
            missing, do not fit, or are not finite; the model that adapters go with was changed.
        MissingExtraError: a library is not installed.
        InvalidInputError: a function cannot be called, or makes something else; the folder of a run is not whole.
        UnknownNameError: there is no such function.
        OSError: a file cannot be read.
    """
    with seeded(0, torch.device("cpu")):
        kinds: dict[str, Callable[[ModelSpec], LoadedPipeline]] = {
            "diffusers": _of_folder,
            "import": _imported,
            "run": _of_run,
        }
        if spec.kind not in kinds:
            raise ModelError(f"{spec.name} ({spec.kind}) is no image generator: `task: diffusion` cannot use it.")
        return kinds[spec.kind](spec)


# From a folder.


def _of_folder(spec: ModelSpec) -> LoadedPipeline:
    found = looked_at(Path(spec.name))
    for part in found.parts.values():
        if part.weights is not None and part.name not in UNUSED:
            float_types(part.weights, part.folder)  # says in one line what is wrong with a file
    loaded = {p.name: _module(p) for p in found.parts.values() if p.weights is not None and p.name not in UNUSED}
    left_out = {name: None for name in UNUSED if name in found.parts}
    try:
        with _quietly():
            pipeline = found.kind.from_pretrained(
                found.path, **loaded, **left_out, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
    except Exception as error:  # whatever a pipeline's own code may raise
        raise ModelError(f"{found.path} cannot be loaded: {one_line(error)}") from error
    name = parts_of(pipeline).name
    weights = found.parts[name].weights
    assert weights is not None
    return LoadedPipeline(
        model=loaded[name],
        spec=spec,
        files=found.files,
        beside=tuple(found.beside()),
        pipeline=pipeline,
        part=name,
        types=float_types(weights, found.parts[name].folder),
        origin=found.path,
        copied=dict(_copies(found, name)),
    )


def _copies(found: PipelineFolder, changed: str) -> Iterator[tuple[str, Path]]:
    """Yield the files that go with a result in which one part is ``changed``, each with its path there.

    Weights of a variant are called as if they were the plain ones, which is what the result then has.
    """
    for path in found.beside():
        if path.parent.name != changed:
            yield path.relative_to(found.path).as_posix(), path
    for part in found.parts.values():
        if part.weights is not None and part.name != changed:
            yield from ((f"{part.name}/{name}", path) for name, path in part.weights.plainly_named(part.folder))


def _module(part: Part) -> Any:
    """Return a part with weights, float32.

    Raises:
        ModelError: it cannot be loaded, weights are missing or do not fit, or are not finite.
    """
    assert part.weights is not None
    dtype = "dtype" if part.library == "transformers" else "torch_dtype"
    try:
        with _quietly():
            model, said = part.kind.from_pretrained(
                part.folder,
                variant=part.weights.variant,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, by name
                **{dtype: torch.float32},
                **({"trust_remote_code": False} if part.library == "transformers" else {"low_cpu_mem_usage": False}),
            )
    except Exception as error:  # whatever a model's own code may raise
        raise ModelError(f"{part.folder} cannot be loaded: {one_line(error)}") from error
    refuse_misfits(said, f"{part.folder} does not hold the whole {part.kind.__name__}")
    model = model.float().eval()
    refuse_not_finite(model, part.folder)
    return model


def refuse_misfits(said: Mapping[str, Any], where: str) -> None:
    """Raise `ModelError` if weights were missing or of another shape, as ``output_loading_info`` says."""
    for fault, key in (("missing", "missing_keys"), ("of another shape", "mismatched_keys")):
        names = sorted(str(one[0] if isinstance(one, tuple) else one) for one in said.get(key) or ())
        if names:
            raise ModelError(f"{where}: {len(names)} tensors are {fault}, such as {', '.join(names[:3])}.")


# Of a function.


def _imported(spec: ModelSpec) -> LoadedPipeline:
    made = call(spec.name, spec.options)
    try:
        parts = parts_of(made)
    except ModelError as error:
        raise InvalidInputError(
            f"{spec.name} must return a pipeline of diffusers, or its parts by name, as `amnesty.Diffusion` takes "
            f"them. {error}"
        ) from error
    types = {name: t.dtype for name, t in parts.backbone.state_dict().items() if t.is_floating_point()}
    for name, module in modules_of(made).items():
        where = f"The {name} of {spec.name}"
        refuse_unfilled(module, where)
        refuse_not_finite(module.float().eval(), where)
    return LoadedPipeline(model=parts.backbone, spec=spec, pipeline=made, part=parts.name, types=types)


# Of an earlier run.


def _of_run(spec: ModelSpec) -> LoadedPipeline:
    from amnesty.requests.checking import read_request

    origin, folders = trace(spec)  # which refuses circles
    folder = folders[0]
    if (folder / ADAPTER).is_dir():
        base = load_pipeline(read_request(folder / "request.yaml", look=False).model)
        _check_base(folder, base)
        return _with_adapters(base, folder)
    if origin.kind == "diffusers":
        return dataclasses.replace(load_pipeline(origin), chain=tuple(folders))
    base = load_pipeline(origin)
    plain = _read_backbone(base, folder / PIPELINE / base.part)
    return _replaced(base, plain, chain=tuple(folders), files=tuple(weight_files(folder)))


def _check_base(folder: Path, base: LoadedPipeline) -> None:
    found = model_facts(base.files, base.model.state_dict()).tensors
    recorded = read_audit(folder)["model"]["before"]["tensors"]
    if found != recorded:
        raise ModelError(
            f"{folder} holds adapters for the model {recorded[:16]}..., but {base.spec.kind} {base.spec.name} is now "
            f"{found[:16]}...: it was changed since."
        )


def _with_adapters(base: LoadedPipeline, folder: Path) -> LoadedPipeline:
    backbone = copy.deepcopy(base.model)
    load_adapters(backbone, folder / ADAPTER)
    merged = Denoiser(backbone, family_of(backbone)).plain()
    return _replaced(base, merged, chain=(folder, *base.chain), files=tuple(weight_files(folder)))


def _read_backbone(base: LoadedPipeline, folder: Path) -> nn.Module:
    """Return the backbone that a run left alone, its other parts being a function's."""
    kind: Any = type(base.model)
    try:
        with _quietly():
            model, said = kind.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
            )
    except Exception as error:  # whatever a model's own code may raise
        raise ModelError(f"{folder} cannot be loaded: {one_line(error)}") from error
    refuse_misfits(said, f"{folder} does not hold the whole {kind.__name__}")
    found: nn.Module = model.float().eval()
    return found


def _replaced(base: LoadedPipeline, plain: nn.Module, **facts: Any) -> LoadedPipeline:
    """Return a pipeline with another backbone."""
    return dataclasses.replace(base, model=plain, pipeline=with_part(base.pipeline, base.part, plain), **facts)
