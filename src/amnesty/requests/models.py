"""The model of a request: made by whoever knows its architecture, filled from files that are only read."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from amnesty.errors import InvalidInputError, MissingExtraError, ModelError, one_line
from amnesty.requests.loaded import ADAPTER, INDEX, PIPELINE, PRETRAINED, WEIGHTS, LoadedModel
from amnesty.requests.pretrained import load_pretrained
from amnesty.requests.request import ModelSpec
from amnesty.seeds import seeded
from amnesty.studies.calling import call
from amnesty.weights import load_weights, read_state
from amnesty.weights.fitting import classes_in, refuse_not_finite

_GUESS = 1000  # classes to begin with, where neither the request nor the data tells
_NOT_OPTIONS = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path"),
    *("cache_dir", "weights", "weights_backbone", "num_classes"),
}
"""Arguments of timm and torchvision that load or fetch weights, or that have a place of their own in a request."""


def load_model(spec: ModelSpec, classes: int | None = None) -> LoadedModel:
    """Make the network of a request and load its weights.

    The number of classes is that of ``spec``; else that of the weights, where it can be told; else ``classes``. The
    caller's random generators are as before.

    Args:
        spec: which model.
        classes: how many the data has.

    Raises:
        ModelError: the architecture is not known or cannot be made, or the weights cannot be loaded into it.
        MissingExtraError: the library that knows the architecture is not installed.
        InvalidInputError: a function cannot be called, or makes something else; the folder of a run is not whole.
        UnknownNameError: there is no such function.
        OSError: a file cannot be read.
    """
    with seeded(0, torch.device("cpu")):
        if spec.kind == "run":
            return _of_run(spec, classes)
        if spec.kind == "huggingface":
            return load_pretrained(Path(spec.name))
        if spec.kind == "diffusers":
            raise ModelError(f"{spec.name} is an image generator: it is for `task: diffusion`.")
        return _imported(spec) if spec.kind == "import" else _of_library(spec, classes)


def _of_run(spec: ModelSpec, classes: int | None) -> LoadedModel:
    origin, folders = trace(spec)
    return dataclasses.replace(load_model(origin, classes), chain=tuple(folders))


def trace(spec: ModelSpec) -> tuple[ModelSpec, list[Path]]:
    """Return what made the network of an earlier run, with that run's own weights.

    Args:
        spec: of kind ``"run"``; another one is returned as it is.

    Returns:
        The specification, of another kind than ``"run"``, and the folders of the runs, the latest first.

    Raises:
        ModelError: a folder holds no model, or the runs go round in a circle.
        InvalidInputError, OSError: a request.yaml cannot be read.
    """
    from amnesty.requests.checking import read_request

    folders: list[Path] = []
    origin = spec
    while origin.kind == "run":
        folder = Path(origin.name).resolve()
        if folder in folders:
            raise ModelError(f"The runs that begin with {folders[0]} lead back to {folder}: none has made the model.")
        folders.append(folder)
        if (folder / PRETRAINED).is_dir():
            origin = ModelSpec(kind="huggingface", name=str(folder / PRETRAINED))
        elif (folder / PIPELINE / INDEX).is_file():
            origin = ModelSpec(kind="diffusers", name=str(folder / PIPELINE))
        elif (folder / WEIGHTS).is_file() or (folder / ADAPTER).is_dir() or (folder / PIPELINE).is_dir():
            origin = read_request(folder / "request.yaml", look=False).model
        else:
            raise ModelError(f"{folder} is no finished run: it holds neither {WEIGHTS} nor a folder {PRETRAINED!r}.")
    if not folders or origin.kind in ("huggingface", "diffusers"):
        return origin, folders
    return dataclasses.replace(origin, weights=folders[0] / WEIGHTS), folders


def _imported(spec: ModelSpec) -> LoadedModel:
    model = call(spec.name, spec.options)
    if not isinstance(model, nn.Module):
        raise InvalidInputError(f"{spec.name} must return a `torch.nn.Module`, found {type(model).__name__}.")
    if spec.weights is not None:
        load_weights(spec.weights, model)
    refuse_unfilled(model, spec.name)
    refuse_not_finite(model, spec.name)
    files = () if spec.weights is None else (spec.weights,)
    return LoadedModel(model=model.eval(), spec=spec, files=files, classes=spec.classes)


def refuse_unfilled(model: nn.Module, where: str) -> None:
    """Raise `ModelError` if weights of a model have no values yet; ``where`` it came from."""
    values = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    unfilled = [name for name, value in values.items() if is_lazy(value) or value.is_meta]
    if unfilled:
        raise ModelError(
            f"{where} returned a network whose weights have no values yet, such as {unfilled[0]!r}: it is lazy, or "
            "on the device `meta`. Let the function fill it; a lazy one also by `model.weights`."
        )


def _of_library(spec: ModelSpec, classes: int | None) -> LoadedModel:
    if spec.weights is None:
        raise ModelError(f"`model.weights` is needed: {spec.kind} knows the architecture {spec.name!r} only.")
    state = read_state(spec.weights)
    count = spec.classes or classes or _GUESS
    build = _builder(spec)
    model = build(count)
    found = classes_in(state, model, count) if spec.classes is None else None
    if found is not None:
        count, model = found, build(found)
    load_weights(spec.weights, model)
    return LoadedModel(model=model.eval(), spec=spec, files=(spec.weights,), classes=count)


def _builder(spec: ModelSpec) -> Callable[[int], nn.Module]:
    """Return a function that makes the network of ``spec`` for a number of classes."""
    refused = sorted(_NOT_OPTIONS & spec.options.keys())
    if refused:
        raise ModelError(
            f"`model.options` cannot have {refused[0]!r}: weights come from `model.weights` only, and the number of "
            "classes is `model.classes`."
        )
    create = _timm(spec.name) if spec.kind == "timm" else _torchvision(spec.name)

    def build(classes: int) -> nn.Module:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # how weights are drawn that are to be replaced
                model: nn.Module = create(spec.name, num_classes=classes, **spec.options)
        except Exception as error:  # whatever an architecture may raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ModelError(
                f"{spec.kind} cannot make {spec.name!r} for {classes} classes with {dict(spec.options)}: {reason}"
            ) from error
        return model

    return build


def _timm(name: str) -> Any:
    timm = _library("timm")
    # A name such as `hf_hub:...` would be fetched; a tag after a dot may choose the size of images.
    if ":" in name or "/" in name or not timm.is_model(name.partition(".")[0]):
        raise _unknown("timm", name, timm.list_models())
    return lambda name, **options: timm.create_model(name, pretrained=False, **options)


def _torchvision(name: str) -> Any:
    models = _library("torchvision").models
    known = models.list_models(module=models)  # classifiers only
    if name.lower() not in known:
        raise _unknown("torchvision", name, known)
    return lambda name, **options: models.get_model(name, weights=None, **options)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, "vision", f"An architecture of {name}") from error
    except RuntimeError as error:  # built for another version of PyTorch
        raise ModelError(f"{name} cannot be loaded beside this PyTorch: {one_line(error, named=False)}.") from error


def _unknown(library: str, name: str, known: Iterable[str]) -> ModelError:
    near = difflib.get_close_matches(name, list(known), n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return ModelError(f"{library} has no architecture of classifiers that is called {name!r}.{hint}")
