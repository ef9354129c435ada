"""The model of a zero-shot request: two towers, a tokenizer and an image processor, from files that are only read."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amnesty.errors import InvalidInputError, MissingExtraError, ModelError, one_line
from amnesty.requests.audit import model_facts, read_audit
from amnesty.requests.digests import file_hash, weight_files
from amnesty.requests.loaded import ADAPTER, LoadedModel, quiet, whole_folder
from amnesty.requests.models import refuse_unfilled, trace
from amnesty.requests.presence import IMAGE_PROCESSORS, TOKENIZERS
from amnesty.requests.pretrained import config_of, library, load_whole
from amnesty.requests.request import ModelSpec
from amnesty.seeds import seeded
from amnesty.studies.calling import call
from amnesty.tasks.zero_shot import ZeroShotClassifier
from amnesty.tasks.zero_shot.arguments import parts_of
from amnesty.tasks.zero_shot.towers import library_of
from amnesty.weights import load_weights, read_state
from amnesty.weights.fitting import refuse_not_finite

_BESIDE = (
    *TOKENIZERS,
    *IMAGE_PROCESSORS,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
)
"""Files of a tokenizer and an image processor, which go with a model wherever it goes."""


@dataclass(frozen=True, kw_only=True)
class LoadedTowers(LoadedModel):
    """Two towers with what makes texts and images their inputs.

    Attributes:
        processor: tokenizer and image processor.
        separate: whether adapters are saved alone.
    """

    processor: tuple[Any, Any]
    separate: bool = False

    @property
    def describe(self) -> Mapping[str, Any]:
        """What it is, as plain values."""
        return {**super().describe, "processor": {path.name: file_hash(path) for path in self.beside}}

    def save(self, folder: Path, model: nn.Module) -> Path:
        """Write the towers of a classifier, adapters merged; with ``separate`` the adapters alone, to ``adapter``."""
        assert isinstance(model, ZeroShotClassifier)
        if not self.separate:
            return super().save(folder, model.plain())
        target = folder / ADAPTER
        with whole_folder(target) as temporary, quiet():
            model.save_pretrained(temporary, merge=False)
            (temporary / "README.md").unlink(missing_ok=True)  # peft's form of a model card, not filled in
        return target


def load_towers(spec: ModelSpec) -> LoadedTowers:
    """Make two towers and load their weights, tokenizer and image processor.

    Args:
        spec: of kind ``"huggingface"``, ``"open_clip"``, ``"import"`` or ``"run"``.

    Raises:
        ModelError: the architecture is not known, needs the network, or has not two towers; weights, tokenizer or
            image processor cannot be loaded; the model that adapters go with was changed.
        MissingExtraError: a library is not installed.
        InvalidInputError: a function cannot be called, or makes something else; the folder of a run is not whole.
        UnknownNameError: there is no such function.
        OSError: a file cannot be read.
    """
    with seeded(0, torch.device("cpu")):
        if spec.kind == "run":
            return _of_run(spec)
        if spec.kind == "diffusers":
            raise ModelError(f"{spec.name} is an image generator: it is for `task: diffusion`.")
        kinds: dict[str, Callable[[ModelSpec], LoadedTowers]] = {"huggingface": _pretrained, "open_clip": _open_clip}
        found = kinds.get(spec.kind, _imported)(spec)
    library_of(found.model)
    return found


def _of_run(spec: ModelSpec) -> LoadedTowers:
    origin, folders = trace(spec)  # which refuses circles
    folder = folders[0]
    if not (folder / ADAPTER).is_dir():
        return dataclasses.replace(load_towers(origin), chain=tuple(folders))
    from amnesty.requests.checking import read_request

    base = load_towers(read_request(folder / "request.yaml", look=False).model)
    found = model_facts(base.files, base.model.state_dict()).tensors
    recorded = read_audit(folder)["model"]["before"]["tensors"]
    if found != recorded:
        raise ModelError(
            f"{folder} holds adapters for the model {recorded[:16]}..., but {base.spec.kind} {base.spec.name} is now "
            f"{found[:16]}...: it was changed since."
        )
    merged, files = _with_adapter(base.model, folder / ADAPTER), tuple(weight_files(folder))
    return dataclasses.replace(base, model=merged, files=files, chain=(folder, *base.chain))


def _with_adapter(towers: Any, folder: Path) -> nn.Module:
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "clip", "LoRA") from error
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder} has no adapter_model.safetensors: it is no folder of adapters.")
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what transformers says of peft
            wrapped: Any = peft.PeftModel.from_pretrained(copy.deepcopy(towers), str(folder))
            merged: nn.Module = wrapped.merge_and_unload()
    except Exception as error:  # whatever peft may raise
        raise ModelError(f"The adapters in {folder} cannot be loaded: {one_line(error)}") from error
    return merged.requires_grad_(True).eval()


def _pretrained(spec: ModelSpec) -> LoadedTowers:
    transformers, folder = library(), Path(spec.name)
    kind = config_of(folder, transformers)["model_type"]
    known = transformers.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING
    if transformers.CONFIG_MAPPING[kind] not in known:
        raise ModelError(f"{folder} is of the type {kind!r}, which has not a tower for text and one for images.")
    tokenizer = _processor(transformers.AutoTokenizer, folder, "tokenizer")
    images = _processor(transformers.AutoImageProcessor, folder, "image processor")
    model, files = load_whole(folder, transformers.AutoModelForZeroShotImageClassification, "a model of two towers")
    return LoadedTowers(
        model=model,
        spec=spec,
        files=files,
        pretrained=True,
        beside=tuple(path for name in _BESIDE if (path := folder / name).is_file()),
        processor=(tokenizer, images),
    )


def _processor(kind: Any, folder: Path, what: str) -> Any:
    try:
        with quiet():
            return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a processor's own code may raise
        raise ModelError(f"The {what} in {folder} cannot be loaded: {one_line(error)}") from error


def _open_clip(spec: ModelSpec) -> LoadedTowers:
    if spec.weights is None:
        raise ModelError(f"`model.weights` is needed: open_clip knows the architecture {spec.name!r} only.")
    open_clip = _library()
    _refuse_fetching(open_clip.get_model_config(spec.name), spec.name)
    read_state(spec.weights)  # before a network is made for them
    level = logging.getLogger().level
    try:
        logging.getLogger().setLevel(logging.ERROR)  # that nothing is pretrained is meant
        model, _, images = open_clip.create_model_and_transforms(
            spec.name, pretrained=None, pretrained_text=False, **spec.options
        )
        tokenizer = open_clip.get_tokenizer(spec.name)
    except Exception as error:  # whatever an architecture may raise
        raise ModelError(
            f"open_clip cannot make {spec.name!r} with {dict(spec.options)}: {one_line(error)}"
        ) from error
    finally:
        logging.getLogger().setLevel(level)
    load_weights(spec.weights, model)
    return LoadedTowers(model=model.eval(), spec=spec, files=(spec.weights,), processor=(tokenizer, images))


def _library() -> Any:
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise MissingExtraError("open_clip_torch", "clip", "An architecture of open_clip") from error
    except RuntimeError as error:  # torchvision was built for another version of PyTorch
        raise ModelError(f"open_clip cannot be loaded here: {one_line(error, named=False)}.") from error


def _refuse_fetching(config: Mapping[str, Any] | None, name: str) -> None:
    if config is None:
        raise ModelError(f"open_clip has no architecture that is called {name!r}.")
    text = config.get("text_cfg", {})
    named = next((text[key] for key in ("hf_model_name", "hf_tokenizer_name") if text.get(key)), None)
    if named or "siglip" in name.lower():
        raise ModelError(
            f"open_clip would fetch the tokenizer of {name!r}{f' ({named})' if named else ''}, and nothing is "
            "fetched. Make the model by `import:`, or give a folder of Hugging Face."
        )


def _imported(spec: ModelSpec) -> LoadedTowers:
    made = call(spec.name, spec.options)
    model, given = made if isinstance(made, tuple) and len(made) == 2 else (None, None)
    if not isinstance(model, nn.Module):
        raise InvalidInputError(
            f"{spec.name} must return a pair, the model and its processor, as `amnesty.ZeroShot` takes them; found "
            f"{type(made).__name__}."
        )
    processor = parts_of(given)
    if spec.weights is not None:
        load_weights(spec.weights, model)
    refuse_unfilled(model, spec.name)
    refuse_not_finite(model, spec.name)
    files = () if spec.weights is None else (spec.weights,)
    return LoadedTowers(model=model.eval(), spec=spec, files=files, processor=processor)
