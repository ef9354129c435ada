"""The sections of a request that say which model, which data, and how it is run."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, cast

from amnesty.data import Selector
from amnesty.requests.fields import Section
from amnesty.requests.request import (
    CheckpointSpec,
    DataSpec,
    DuplicatesSpec,
    InputsSpec,
    Likeness,
    ModelKind,
    ModelSpec,
    OnDuplicates,
    SignSpec,
    SourceKind,
    SourceSpec,
    TaskKind,
)
from amnesty.requests.selectors_from import read_selector
from amnesty.requests.vocabulary import HOLDOUT, SIGN, SOURCE, Kinds, model_kinds
from amnesty.requests.yaml_file import UNUSABLE, Node
from amnesty.training.settings import Between, Count, Part, Positive

_MODEL_EXAMPLES: dict[TaskKind, str] = {
    "classification": "model: {timm: resnet18, weights: model.safetensors}",
    "zero-shot": "model: {huggingface: clip}",
    "diffusion": "model: {diffusers: my-generator}",
}
_SOURCE_EXAMPLE = "training: {parquet: train.parquet}"
_NEEDS_WEIGHTS = ("timm", "torchvision", "open_clip")

_REFUSED_OPTIONS = {
    "timm": (
        *("pretrained", "num_classes", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"),
        *("pretrained_strict", "model_name", "cache_dir"),
    ),
    "torchvision": ("weights", "weights_backbone", "num_classes", "pretrained", "progress", "name"),
    "open_clip": (
        *("model_name", "pretrained", "load_weights", "precision", "device", "jit", "pretrained_image"),
        *("pretrained_text", "pretrained_image_path", "pretrained_text_path", "cache_dir", "output_dict"),
        *("weights_only", "aug_cfg"),
    ),
}
"""Options of an architecture that this library gives itself, or that would fetch or unpickle weights."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FUNCTION = re.compile(r"(?P<where>.+\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)")


def read_model(section: Section, task: TaskKind = "classification") -> ModelSpec | None:
    """Return which model, of those that can do the task; ``None`` after its faults were noted."""
    kinds = model_kinds(task)
    kind = cast("ModelKind | None", section.choose(kinds, _MODEL_EXAMPLES[task]))
    if kind is None:
        return None
    name = read_name(section, kind, hub=False)
    weights = section.path("weights") if "weights" in kinds[kind] else None
    if kind in _NEEDS_WEIGHTS:
        section.require("weights", "weights: model.safetensors")
    options = read_options(section, _REFUSED_OPTIONS.get(kind, ())) if "options" in kinds[kind] else {}
    classes = section.take("classes", Count | None)
    return (
        None if name is None else ModelSpec(kind=kind, name=name, weights=weights, classes=classes, options=options)
    )


def read_name(section: Section, kind: str, *, hub: bool) -> str | None:
    """Return what stands at ``kind``: a name, an absolute path, or a function.

    ``hub``: whether ``huggingface`` is a name of the hub; otherwise it is a folder.
    """
    text = section.take(kind, str)
    if text is None:
        return None
    if kind in _NEEDS_WEIGHTS:
        return str(text)
    if kind == "import":
        return read_function(section, "import", text)
    if kind == "huggingface" and hub:
        if not _HUB_NAME.fullmatch(text):
            wanted = "must be a data set of the hub, such as `uoft-cs/cifar10`"
            section.add(kind, f"{wanted}, found {text!r}; name local files with `parquet`.")
        return str(text)
    path = section.absolute(kind, text)
    return None if path is None else str(path)


def read_function(section: Section, key: str, text: str) -> str | None:
    """Return the name of a function, the path of its file absolute; ``None`` after its fault was noted."""
    found = _FUNCTION.fullmatch(text)
    if not found:
        section.add(key, f"must be `package.module:function` or `file.py:function`, found {text!r}.")
        return None
    if not found["where"].endswith(".py"):
        return text
    path = section.absolute(key, found["where"])
    return None if path is None else f"{path}:{found['name']}"


def read_options(section: Section, refused: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the arguments of an architecture or of a function: plain values by name."""
    options = section.section("options")
    found = {}
    for key in options:
        if key in refused:
            options.add(key, "cannot be given: weights and classes are `model.weights` and `model.classes`.")
        elif not key.isidentifier():
            options.add(key, "must be the name of an argument.")
        else:
            found[key] = plain_value(options[key], options.named(key), options)
    return found


def plain_value(node: Node, name: str, section: Section) -> Any:
    """Return what a node holds, lists and mappings too; numbers that are not finite are noted."""
    if isinstance(node.value, dict):
        return {key: plain_value(value, f"{name}.{key}", section) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain_value(value, f"{name}[{i}]", section) for i, value in enumerate(node.value)]
    if isinstance(node.value, float) and not math.isfinite(node.value):
        section.faults.add(node.place, f"`{name}` must be finite, found {node.found}.")
    return None if node.value is UNUSABLE else node.value


def read_data(section: Section) -> DataSpec | None:
    """Return which data; ``None`` where the training data is not told."""
    section.close(("training", "holdout", "validation", "inputs"))
    training = None
    if section.require("training", _SOURCE_EXAMPLE):
        training = read_source(section.section("training"))
    holdout = _holdout(section.section("holdout")) if "holdout" in section else None
    validation = _validation(section)
    if training is not None:
        for key, other in (("holdout", holdout), ("validation", validation)):
            if other == training:
                section.add(key, "must be data that was not trained on, but is the same as `data.training`.")
    if isinstance(validation, SourceSpec) and validation == holdout:
        section.add("validation", "must be other data than `data.holdout`: methods read it, scores must not.")
    inputs = read_inputs(section.section("inputs"))
    if training is None:
        return None
    return DataSpec(training=training, holdout=holdout, validation=validation, inputs=inputs)


def _holdout(section: Section) -> SourceSpec | Selector | None:
    if "rows" not in section:
        return read_source(section, HOLDOUT)
    chosen = section.choose(HOLDOUT, "holdout: {rows: {index_file: unseen.txt}}")
    return read_selector(section.section("rows")) if chosen else None


def _validation(section: Section) -> SourceSpec | float:
    if isinstance(section["validation"].value, dict):
        source = read_source(section.section("validation"))
        return 0.5 if source is None else source
    if "validation" not in section:
        return 0.5
    share: float = section.take("validation", Between, 0.5)
    return share


def read_source(section: Section, kinds: Kinds = SOURCE) -> SourceSpec | None:
    """Return where examples come from; ``None`` after its faults were noted."""
    kind = cast("SourceKind | None", section.choose(kinds, _SOURCE_EXAMPLE))
    if kind is None:
        return None
    name = read_name(section, kind, hub=True)
    options = read_options(section) if kind == "import" else {}
    beside = kinds[kind]
    split = section.take("split", str, "train") if "split" in beside else "train"
    image = section.take("image_column", str | None) if "image_column" in beside else None
    label = section.take("label_column", str, "label") if "label_column" in beside else "label"
    caption = section.take("caption_column", str, "caption") if "caption_column" in beside else "caption"
    limit = section.take("limit", Count | None)
    if not re.fullmatch(r"[\w.+-]+(\[[\w%:.-]*\])?", split):
        section.add("split", f"must be the name of a split, found {split!r}.")
        return None
    if name is None:
        return None
    return SourceSpec(
        kind=kind,
        name=name,
        split=split,
        image_column=image,
        label_column=label,
        caption_column=caption,
        limit=limit,
        options=options,
    )


def read_inputs(section: Section) -> InputsSpec:
    """Return how images become inputs."""
    section.close(("size", "channels", "mean", "std"))
    size = section.take("size", Count | tuple[Count, ...] | None)
    if isinstance(size, tuple) and len(size) != 2:
        section.add("size", f"must be one number, or height and width, found {len(size)} numbers.")
        size = None
    channels = section.take("channels", Literal[1, 3] | None)
    mean = section.take("mean", tuple[float, ...] | None)
    std = section.take("std", tuple[Positive, ...] | None)
    for key, other in (("mean", "std"), ("std", "mean")):
        if key in section and other not in section:
            section.add(key, f"needs `{section.named(other)}` beside it: one without the other is not supported.")
    wanted = channels or (len(mean) if mean else None)
    for key, numbers in (("mean", mean), ("std", std)):
        if numbers and wanted and len(numbers) != wanted:
            section.add(key, f"must have a number for each of {wanted} channels, found {len(numbers)}.")
    if mean and not all(0 <= one <= 1 for one in mean):
        section.add("mean", f"must be of pixels in [0, 1], found {list(mean)}: divide those of [0, 255] by 255.")
    return InputsSpec(size=(size, size) if isinstance(size, int) else size, channels=channels, mean=mean, std=std)


def read_duplicates(section: Section) -> DuplicatesSpec:
    """Return what to do about copies."""
    section.close(("action", "near", "threshold"))
    default = DuplicatesSpec()
    near = section.take("near", tuple[Likeness, ...], default.near)
    return DuplicatesSpec(
        action=section.take("action", OnDuplicates, default.action),
        near=section.unique("near", near) if near is not default.near else near,
        threshold=section.take("threshold", Part | None),
    )


def read_checkpoint(section: Section) -> CheckpointSpec:
    """Return how often a run is saved."""
    section.close(("steps", "minutes"))
    default = CheckpointSpec()
    return CheckpointSpec(
        steps=section.take("steps", Count | None, default.steps),
        minutes=section.take("minutes", Positive | None, default.minutes),
    )


def read_sign(section: Section) -> SignSpec | None:
    """Return how the result is signed."""
    kind = section.choose(SIGN, "sign: {key: private.pem}")
    if kind == "key":
        path = section.path("key")
        return SignSpec(key=path) if path else None
    if kind == "sigstore":
        if section.take("sigstore", bool, True):
            return SignSpec(sigstore=True)
        section.add("sigstore", "must be true: leave `sign` out for no signature.")
    return None
