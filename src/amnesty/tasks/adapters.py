"""Low-rank adapters: where in a model they go, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from amnesty.errors import InvalidInputError, MissingExtraError, one_line


def lora_config(model: nn.Module, group: Sequence[str], lora: int | Mapping[str, Any], extra: str) -> Any:
    """Return the ``peft.LoraConfig`` of adapters on the linear layers whose weights a group has.

    Args:
        model: gets the adapters.
        group: names of parameters.
        lora: the rank, or the arguments of ``peft.LoraConfig`` by name.
        extra: of this library that brings peft, for the error.

    Raises:
        MissingExtraError: peft is not installed.
        InvalidInputError: no layer of the group takes adapters, or the arguments are none of peft's.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", extra, "LoRA") from error
    layers = _layers(model, group)
    if not layers:
        raise InvalidInputError("`lora` needs linear layers, and there is none in the group that `train` names.")
    given = {"r": lora, "lora_alpha": 2 * lora} if isinstance(lora, int) else dict(lora)
    exactly = "|".join(map(re.escape, layers))  # of a list, peft takes whatever ends in a name
    try:
        return peft.LoraConfig(**{"target_modules": exactly, **given})
    except (TypeError, ValueError) as error:
        raise refused(error) from error


def refused(error: Exception) -> InvalidInputError:
    """Return what to raise where peft does not take the arguments."""
    return InvalidInputError(f"`lora` is refused by peft: {one_line(error)}")


def _layers(model: nn.Module, group: Sequence[str]) -> list[str]:
    owners = {name.rpartition(".")[0] for name in group}
    found: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and name in owners:
            found.append(name)  # its layers in one: peft knows it as a whole
        elif isinstance(module, nn.Linear) and name in owners and name.rpartition(".")[0] not in found:
            found.append(name)
    return found
