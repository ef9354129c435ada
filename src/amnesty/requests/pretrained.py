"""Models of Hugging Face, from folders that ``save_pretrained`` wrote: no code in them is run, nothing is fetched."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

from amnesty.errors import MissingExtraError, ModelError
from amnesty.requests.loaded import LoadedModel, quiet
from amnesty.requests.request import ModelSpec
from amnesty.weights import read_state
from amnesty.weights.fitting import refuse_not_finite

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"


def load_pretrained(folder: Path) -> LoadedModel:
    """Load an image classifier from a folder.

    Raises:
        MissingExtraError: `transformers` is not installed.
        ModelError: it is no such folder, its type of model needs code of its own, is none that classifies images, or
            is quantised; weights are missing, do not fit, hold more than tensors, or are not finite.
    """
    transformers = library()
    config = config_of(folder, transformers)
    if transformers.CONFIG_MAPPING[config["model_type"]] not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{folder} is of the type {config['model_type']!r}, of which there are no image classifiers."
        )
    model, files = load_whole(folder, transformers.AutoModelForImageClassification, "a classifier")
    names = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    count = int(model.config.num_labels)
    own = sorted(names) == list(range(count)) and set(names.values()) != {f"LABEL_{i}" for i in range(count)}
    return LoadedModel(
        model=model,
        spec=ModelSpec(kind="huggingface", name=str(folder)),
        files=files,
        classes=count,
        class_names=tuple(names[i] for i in range(count)) if own else None,
        pretrained=True,
        beside=tuple(path for name in PROCESSORS if (path := folder / name).is_file()),
    )


def load_whole(folder: Path, kind: Any, what: str) -> tuple[Any, tuple[Path, ...]]:
    """Return the model in a folder, float32, in evaluation mode, and the files of its weights.

    Args:
        folder: with a configuration that `config_of` found right.
        kind: one of the ``AutoModelFor...`` of transformers.
        what: it must be, for messages.

    Raises:
        ModelError: weights are missing, do not fit, hold more than tensors, or are not finite.
    """
    files = weight_files(folder)
    for file in files:
        read_state(file)  # says in one line what is wrong with it
    model = _load(folder, kind, what, safe=files[0].suffix == ".safetensors").float()
    refuse_not_finite(model, folder)
    return model.eval(), files


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping that a JSON file holds.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"Cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a mapping, found {type(content).__name__}.")
    return content


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a folder that hold its weights, safetensors before others.

    Raises:
        ModelError: there is none, or the list of them names files elsewhere.
    """
    for name in (_SAFE, _PICKLED):
        if (folder / name).is_file():
            return (folder / name,)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return tuple(folder / part for part in _parts(index))
    raise ModelError(f"{folder} has no weights: neither {_SAFE} nor {_PICKLED}, nor a list of their parts.")


def _parts(index: Path) -> list[str]:
    found = read_json(index).get("weight_map")
    names = sorted(set(found.values())) if isinstance(found, dict) and found else []
    plain = all(isinstance(name, str) and PurePath(name).name == name for name in names)
    if not names or not plain:
        raise ModelError(f"{index} must have a `weight_map` to files of its own folder.")
    return names


def library() -> Any:
    """Return transformers; raise `MissingExtraError` where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "clip", "A Hugging Face model") from error
    return transformers


def config_of(folder: Path, transformers: Any) -> dict[str, Any]:
    """Return the configuration in a folder.

    Raises:
        ModelError: it is no folder of ``save_pretrained``, its type of model needs code of its own, or weights are
            quantised.
    """
    if not folder.is_dir():
        raise ModelError(f"There is no folder {folder}; a Hugging Face model is one that `save_pretrained` wrote.")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no folder that `save_pretrained` wrote: it has no config.json.")
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        own = "auto_map" in config
        raise ModelError(
            f"{folder} is of the type {kind!r}, which `transformers` {transformers.__version__} does not know"
            + (": it brings code of its own, which is not run. Make the network by `import:`." if own else ".")
        )
    if "quantization_config" in config:
        raise ModelError(f"{folder} holds quantised weights, which cannot be trained. Give the original ones.")
    return config


def _load(folder: Path, kind: Any, what: str, *, safe: bool) -> Any:
    try:
        with quiet():
            model, found = kind.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=safe,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, by name
            )
    except Exception as error:  # whatever a model's own code may raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ModelError(f"{folder} cannot be loaded: {reason}") from error
    faults = {"missing": found["missing_keys"], "not known": found["unexpected_keys"]}
    for fault, keys in (*faults.items(), ("of another shape", found["mismatched_keys"])):
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
        if names:
            raise ModelError(
                f"{folder} does not hold the whole {type(model).__name__}: {len(names)} tensors are {fault}, such as "
                f"{', '.join(names[:3])}. It must be {what} that was trained and saved as one."
            )
    return model
