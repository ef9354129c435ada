"""Settings as JSON, so that a file can tell what it was made with."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch

from amnesty.errors import InvalidInputError


@functools.singledispatch
def described(value: Any) -> Any:
    """Return settings as JSON that tells different ones apart: dataclasses by class and fields, arrays by content.

    Classes and functions count by their name, so that functions need one of their own.

    Raises:
        InvalidInputError: something in it has no such form, such as a lambda.

    >>> described({"lr": 0.1, "layers": (1, 2), "act": torch.nn.ReLU})
    {'act': 'torch.nn.modules.activation.ReLU', 'layers': [1, 2], 'lr': 0.1}
    """
    if not dataclasses.is_dataclass(value):
        raise InvalidInputError(
            f"Settings that are kept in a file must be numbers, text, dataclasses, arrays or named functions; found "
            f"{value!r}."
        )
    fields = {field.name: described(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {"class": _name(type(value)), **fields}


def digest(description: Any) -> str:
    """Return the SHA-256 (hex) of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True, allow_nan=False).encode()).hexdigest()


@described.register(bool | int | str | None)
def _(value: Any) -> Any:
    return value


@described.register
def _(value: float) -> float | str:
    return float(value) if math.isfinite(value) else repr(value)


@described.register
def _(value: np.generic) -> Any:
    return described(value.item())


@described.register
def _(value: Mapping) -> dict[str, Any]:  # type: ignore[type-arg]
    return {str(key): described(value[key]) for key in sorted(value, key=str)}


@described.register(list | tuple | range)
def _(value: Any) -> list[Any]:
    return [described(one) for one in value]


@described.register
def _(value: np.ndarray) -> list[Any]:
    return [value.dtype.str, list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]


@described.register
def _(value: torch.Tensor) -> Any:
    return described(value.detach().cpu().numpy())


@described.register(torch.device | torch.dtype)
def _(value: Any) -> str:
    return str(value)


@described.register
def _(value: functools.partial) -> list[Any]:  # type: ignore[type-arg]
    return ["partial", described(value.func), described(value.args), described(value.keywords)]


@described.register(type | FunctionType | BuiltinFunctionType)
def _name(value: Any) -> str:
    name = f"{value.__module__}.{value.__qualname__}"
    if "<lambda>" in name or (isinstance(value, FunctionType) and "<locals>" in name):
        raise InvalidInputError(
            f"A setting is the nameless or local function {name}, which a file cannot tell from another one. Define "
            "it at the top of a module."
        )
    return name
