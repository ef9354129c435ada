"""Low-rank adapters on the parameters of a group of two towers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from amnesty.tasks.adapters import lora_config, refused


def with_adapters(towers: nn.Module, group: Sequence[str], lora: int | Mapping[str, Any]) -> nn.Module:
    """Return a ``PeftModel`` around ``towers``, in place, with adapters on linear layers.

    They are put where the weights of a group are. Nothing else in it requires a gradient. The adapters change nothing
    until they are trained.

    Args:
        towers: a model of two towers.
        group: names of parameters; see `amnesty.tasks.zero_shot.towers.parameters_of`.
        lora: see `amnesty.tasks.adapters.lora_config`.

    Raises:
        MissingExtraError, InvalidInputError: as `amnesty.tasks.adapters.lora_config`.
    """
    config = lora_config(towers, group, lora, "clip")
    import peft

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers under an older name
            wrapped: nn.Module = peft.get_peft_model(towers, config)
    except (TypeError, ValueError) as error:
        raise refused(error) from error
    return wrapped
