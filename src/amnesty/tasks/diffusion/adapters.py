"""Low-rank adapters in a backbone: put in, saved alone, and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from amnesty.errors import MissingExtraError, ModelError, one_line
from amnesty.tasks.adapters import lora_config, refused

WEIGHTS, CONFIG = "pytorch_lora_weights.safetensors", "adapter_config.json"
"""What pipelines of diffusers call a file of adapters, and the configuration beside it."""


def put_adapters(backbone: nn.Module, group: Sequence[str], lora: int | Mapping[str, Any]) -> None:
    """Put adapters into a backbone where the weights of a group are; nothing else in it requires a gradient then.

    They change nothing until they are trained. The class of the backbone stays, with all its methods.

    Raises:
        MissingExtraError, InvalidInputError: as `amnesty.tasks.adapters.lora_config`.
    """
    config = lora_config(backbone, group, lora, "diffusion")
    try:
        _inject(backbone, config)
    except (TypeError, ValueError) as error:
        raise refused(error) from error
    for name, p in backbone.named_parameters():
        p.requires_grad_("lora_" in name)


def save_adapters(backbone: nn.Module, folder: Path) -> None:
    """Write the adapters of a backbone, as ``load_lora_weights`` of a pipeline reads them."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    prefix = "unet" if "UNet" in type(backbone).__name__ else "transformer"
    own = get_peft_model_state_dict(backbone)
    # Pipelines read a scale of 1 where none is told, so it becomes part of the weights.
    for name, module in backbone.named_modules():
        if f"{name}.lora_B.weight" in own:
            own[f"{name}.lora_B.weight"] = own[f"{name}.lora_B.weight"] * module.scaling["default"]
    save_file({f"{prefix}.{name}": value.contiguous() for name, value in own.items()}, folder / WEIGHTS)
    adapters: Any = backbone.peft_config
    config = adapters["default"].to_dict()
    config |= {"lora_alpha": config["r"], "alpha_pattern": config["rank_pattern"], "use_rslora": False}
    (folder / CONFIG).write_text(json.dumps(_plain(config), indent=2) + "\n", encoding="utf-8")


def load_adapters(backbone: nn.Module, folder: Path) -> None:
    """Put adapters that `save_adapters` wrote into a backbone, in place.

    Raises:
        ModelError: the files cannot be read, or are of another model.
        MissingExtraError: peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "diffusion", "LoRA") from error
    try:
        config = peft.LoraConfig(**json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        state = {name.partition(".")[2]: value for name, value in load_file(folder / WEIGHTS).items()}
        _inject(backbone, config)
        said: Any = peft.set_peft_model_state_dict(backbone, state)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"The adapters in {folder} cannot be loaded: {one_line(error)}") from error
    lacking = [name for name in said.missing_keys if "lora_" in name]
    if said.unexpected_keys or lacking:
        raise ModelError(f"The adapters in {folder} are of another model: {[*said.unexpected_keys, *lacking][0]!r}.")


def _inject(backbone: Any, config: Any) -> None:
    from peft import inject_adapter_in_model

    inject_adapter_in_model(config, backbone)
    backbone._hf_peft_config_loaded = True  # as `add_adapter` does where a model has it


def _plain(value: Any) -> Any:
    """Return settings as JSON has them: sets become lists, members of enumerations their values."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if key not in _OF_THE_MACHINE}
    if isinstance(value, set | list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) and type(value) in _JSON else str(value)


_JSON = (str, int, float, bool, type(None))
_OF_THE_MACHINE = ("runtime_config", "auto_mapping", "peft_version")
