"""Low-rank adapters on the parameters of a group."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from amnesty.errors import InvalidInputError, MissingExtraError, one_line


def with_adapters(towers: nn.Module, group: Sequence[str], lora: int | Mapping[str, Any]) -> nn.Module:
    """Return a ``PeftModel`` around ``towers``, in place, with adapters on linear layers.

    They are put where the weights of a group are. Nothing else in it requires a gradient. The adapters change nothing
    until they are trained.

    Args:
        towers: a model of two towers.
        group: names of parameters; see `amnesty.tasks.zero_shot.towers.parameters_of`.
        lora: the rank, or the arguments of ``peft.LoraConfig`` by name.

    Raises:
        MissingExtraError: peft is not installed.
        InvalidInputError: no layer of the group takes adapters, or the arguments are none of peft's.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "clip", "LoRA") from error
    layers = _layers(towers, group)
    if not layers:
        raise InvalidInputError("`lora` needs linear layers, and there is none in the group that `train` names.")
    given = {"r": lora, "lora_alpha": 2 * lora} if isinstance(lora, int) else dict(lora)
    exactly = "|".join(map(re.escape, layers))  # of a list, peft takes whatever ends in a name
    try:
        config = peft.LoraConfig(**{"target_modules": exactly, **given})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers under an older name
            wrapped: nn.Module = peft.get_peft_model(towers, config)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"`lora` is refused by peft: {one_line(error)}") from error
    return wrapped


def _layers(towers: nn.Module, group: Sequence[str]) -> list[str]:
    owners = {name.rpartition(".")[0] for name in group}
    found: list[str] = []
    for name, module in towers.named_modules():
        if isinstance(module, nn.MultiheadAttention) and name in owners:
            found.append(name)  # its layers in one: peft knows it as a whole
        elif isinstance(module, nn.Linear) and name in owners and name.rpartition(".")[0] not in found:
            found.append(name)
    return found
