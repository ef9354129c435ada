"""Whether what a request names is there: files, folders, devices, packages, architectures. Nothing is loaded."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from amnesty.data import Column, IndexFile, Selector
from amnesty.errors import AmnestyError, InvalidInputError, MissingExtraError
from amnesty.requests.faults import Faults, Place
from amnesty.requests.request import DataSpec, ModelSpec, SignSpec, SourceSpec, TaskKind, ZeroShotSpec
from amnesty.requests.signing import check_sign
from amnesty.requests.tracking import check_trackers
from amnesty.requests.values import nearest
from amnesty.tasks import usable_device

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl")
"""Endings of files that may be weights: safetensors, and those that ``torch.save`` is given."""

_INSTALLED_AS = {"PIL": "pillow", "model_signing": "model-signing", "open_clip": "open_clip_torch"}

TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
"""Files of which the folder of a model that reads has at least one."""

IMAGE_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Files of which the folder of a model that looks has at least one."""

_FOLDERS = {
    "huggingface": ("transformers", "clip", "config.json"),
    "diffusers": ("diffusers", "diffusion", "model_index.json"),
}
"""Of models that are folders: the library, the extra that it comes with, and a file that is there."""

Where = Callable[..., Place]
"""Tells the place of a value by the keys that lead to it."""


@dataclass(frozen=True)
class Around:
    """Looks for what a request names, and notes what is not there."""

    where: Where
    faults: Faults

    def add(self, path: tuple[str, ...], text: str) -> None:
        """Note a fault of the value at a path of keys; the text goes on after its name."""
        self.faults.add(self.where(*path), f"`{'.'.join(path)}` {text}")

    def file(self, path: tuple[str, ...], file: Path | None) -> bool:
        """Say whether there is a file; note it where there is none."""
        return file is not None and self._there(path, file, file.is_file, "file")

    def folder(self, path: tuple[str, ...], folder: Path) -> bool:
        """Say whether there is a folder; note it where there is none."""
        return self._there(path, folder, folder.is_dir, "folder")

    def _there(self, path: tuple[str, ...], found: Path, right: Callable[[], bool], what: str) -> bool:
        try:
            if not right():
                self.add(path, f"must be a {what}, but {f'{found} is none' if found.exists() else _nearby(found)}.")
            elif not os.access(found, os.R_OK):
                self.add(path, f"cannot be read: you may not read {found}.")
            else:
                return True
        except OSError as error:  # a name that is too long, a folder that may not be entered
            self.add(path, f"cannot be looked at: {error}.")
        return False

    def package(self, path: tuple[str, ...], package: str, extra: str) -> bool:
        """Say whether an optional package is installed; note how to install it where it is not."""
        if importlib.util.find_spec(package) is not None:
            return True
        self.add(path, f"cannot be used here. {MissingExtraError(_INSTALLED_AS.get(package, package), extra, 'It')}")
        return False

    def function(self, path: tuple[str, ...], name: str) -> None:
        """Note a function whose file or package is not there."""
        where = name.rpartition(":")[0]
        if where.endswith(".py"):
            self.file(path, Path(where))
            return
        top = where.partition(".")[0]
        try:
            found = importlib.util.find_spec(top) or PathFinder.find_spec(top, [str(Path.cwd())])
        except ValueError:  # a module that runs, such as `__main__`
            found = None
        if found is None:
            self.add(path, f"names the package {top!r}, which is neither installed nor in the current folder.")


def _nearby(missing: Path) -> str:
    """Say that there is nothing at a path, and what has nearly its name."""
    folder = missing.parent
    near = nearest(missing.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
    return f"there is nothing at {missing}{near and f' ({near.strip()})'}"


def look_for_model(
    around: Around, spec: ModelSpec, task: TaskKind = "classification", key: tuple[str, ...] = ("model",)
) -> None:
    """Look for a model's weights, its architecture and its library; for two towers, also for what they come with.

    Args:
        around: notes what is not there.
        spec: which model.
        task: what it must do.
        key: that leads to it in the request.
    """
    if spec.weights is not None and around.file((*key, "weights"), spec.weights):
        _check_ending(around, (*key, "weights"), spec.weights)
    path = (*key, spec.kind)
    if spec.kind in ("timm", "torchvision"):
        if around.package(path, spec.kind, "vision"):
            _look_for_architecture(around, path, spec.kind, spec.name)
    elif spec.kind == "open_clip":
        if around.package(path, "open_clip", "clip"):
            _look_for_architecture(around, path, spec.kind, spec.name)
    elif spec.kind == "import":
        around.function(path, spec.name)
    elif spec.kind == "run":
        _look_for_run(around, path, Path(spec.name))
    elif around.folder(path, Path(spec.name)):
        folder = Path(spec.name)
        library, extra, file = _FOLDERS[spec.kind]
        if around.package(path, library, extra) and not (folder / file).is_file():
            around.add(path, f"must be a folder that `save_pretrained` wrote, but {folder} has no {file}.")
        if task == "zero-shot":
            _look_for_processor(around, path, folder)


def _look_for_processor(around: Around, path: tuple[str, ...], folder: Path) -> None:
    for what, names in (("tokenizer", TOKENIZERS), ("image processor", IMAGE_PROCESSORS)):
        if not any((folder / name).is_file() for name in names):
            text = f"must hold the model's {what}, but {folder} has none of {', '.join(names)}."
            around.add(path, f"{text} Save it there with `processor.save_pretrained`.")


def _look_for_run(around: Around, path: tuple[str, ...], folder: Path) -> None:
    if not (folder / "request.yaml").is_file():
        around.add(path, not_a_run(folder))
    elif not any((folder / name).exists() for name in ("model.safetensors", "model", "pipeline", "adapter")):
        text = "has no model.safetensors and no folder `model`, `pipeline` or `adapter`."
        around.add(path, f"is a run that is not over: {folder} {text}")


def not_a_run(folder: Path | None) -> str:
    """Say what is wrong with a folder that should be an earlier run's."""
    return f"must be the folder of an earlier run, but there is no request.yaml in {folder}, or none with data."


def _check_ending(around: Around, path: tuple[str, ...], file: Path) -> None:
    if file.suffix not in WEIGHTS:
        around.add(path, f"must end in one of {', '.join(WEIGHTS)}, found {file.name}.")
    elif file.stat().st_size == 0:
        around.add(path, f"is an empty file: {file}.")


def _look_for_architecture(around: Around, path: tuple[str, ...], library: str, name: str) -> None:
    try:
        known = _architectures(library)
    except (ImportError, RuntimeError, AttributeError) as error:  # built for another PyTorch
        around.add(path, f"cannot be used here: {library} does not load: {error}.")
        return
    wanted = name.lower() if library == "torchvision" else name
    wanted = name.partition(".")[0] if library == "timm" else wanted  # a name may end in a tag
    if wanted not in known:
        around.add(path, f"must be an architecture of {library}, found {name!r}.{nearest(name, known)}")


def _architectures(library: str) -> list[str]:
    if library == "timm":
        return list(importlib.import_module("timm").list_models())
    if library == "open_clip":
        return list(importlib.import_module("open_clip").list_models())
    models = importlib.import_module("torchvision.models")
    return list(models.list_models(module=models))


def look_for_data(around: Around, spec: DataSpec) -> None:
    """Look for all sources of a request's data."""
    for key, source in (("training", spec.training), ("holdout", spec.holdout), ("validation", spec.validation)):
        if isinstance(source, SourceSpec):
            look_for_source(around, ("data", key), source)
        elif source is not None and not isinstance(source, float):
            look_for_selector(around, ("data", key, "rows"), source)


def look_for_zero_shot(around: Around, spec: ZeroShotSpec) -> None:
    """Look for what a zero-shot task names beside model and data."""
    if spec.lora is not None:
        around.package(("zero_shot", "lora"), "peft", "clip")
    if isinstance(spec.bank, Path) and around.file(("zero_shot", "bank"), spec.bank) and not spec.bank.stat().st_size:
        around.add(("zero_shot", "bank"), f"is an empty file: {spec.bank}.")
    for name, transfer in spec.transfers.items():
        look_for_source(around, ("zero_shot", "transfers", name), transfer.data)
    for key, source in spec.captioned.items():
        look_for_source(around, ("zero_shot", key), source)


def look_for_source(around: Around, section: tuple[str, ...], spec: SourceSpec) -> None:
    """Look for a data set and what reads it."""
    path = (*section, spec.kind)
    if spec.kind == "import":
        around.function(path, spec.name)
        return
    if not around.package(path, *(("PIL", "data") if spec.kind == "images" else ("datasets", "data"))):
        return
    folder = Path(spec.name)
    if spec.kind == "images":
        if around.folder(path, folder) and not any(p.is_dir() for p in folder.iterdir() if p.name[0] != "."):
            around.add(path, f"must have a folder of images for each class, but {folder} has no folder in it.")
    elif spec.kind == "parquet" and not folder.is_dir():
        around.file(path, folder)
    elif spec.kind == "parquet" and not any(folder.glob(f"{spec.split}-*.parquet")):
        around.add(path, f"must hold files {spec.split}-*.parquet, but {folder} has none: is `split` right?")


def look_for_selector(around: Around, section: tuple[str, ...], selector: Selector) -> None:
    """Look for the file of a selector that has one."""
    for key, file in files_of(selector):
        if around.file((*section, key), file) and file.stat().st_size == 0:
            around.add((*section, key), f"is an empty file: {file}.")


def files_of(selector: Selector) -> Iterator[tuple[str, Path]]:
    """Give the key and the path of a selector's file, if it has one."""
    if isinstance(selector, IndexFile):
        yield "index_file", Path(selector.path)
    elif isinstance(selector, Column) and isinstance(selector.values, Path):
        yield "values_file", selector.values


def look_for_sign(around: Around, spec: SignSpec) -> None:
    """Look for the key and the library of signatures; a key is read."""
    if spec.key is None:  # whether sigstore can be reached is asked when the run begins
        around.package(("sign", "sigstore"), "model_signing", "sign")
    elif around.file(("sign", "key"), spec.key):
        try:
            check_sign(spec)
        except AmnestyError as error:
            around.faults.add(around.where("sign", "key"), f"`sign.key`: {error}")


def look_for_device(around: Around, device: str) -> None:
    """Note a device that PyTorch does not have here."""
    if device == "auto":
        return
    try:
        found = usable_device(device)
    except InvalidInputError as error:
        reason = str(error.__cause__).splitlines()[0].rstrip(".")
        around.add(("device",), f"must be `auto`, or a device that is there, found {device!r}: {reason}.")
        return
    if found.type == "meta":
        around.add(("device",), "must be a device that computes, found 'meta'.")


def look_for_reference(around: Around, file: Path) -> None:
    """Look for the weights of the retrained model."""
    if around.file(("reference",), file):
        _check_ending(around, ("reference",), file)


def look_for_trackers(around: Around, names: tuple[str, ...]) -> None:
    """Note trackers that `accelerate` does not know, or whose package is not there."""
    for i, name in enumerate(names):
        try:
            check_trackers([name])
        except AmnestyError as error:
            around.faults.add(around.where("trackers"), f"`trackers[{i}]`: {error}")
