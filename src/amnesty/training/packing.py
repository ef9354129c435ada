"""Nested values as JSON and a list of tensors, and back, each number as it was to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amnesty.errors import CheckpointError

_TAG = "!"


def pack(value: Any, tensors: list[Tensor], where: str = "state") -> Any:
    """Return what JSON can hold of ``value``; its tensors are appended to ``tensors``, not copied.

    Args:
        value: numbers, texts, ``None``, tensors and arrays, in lists, tuples and mappings.
        tensors: gets the tensors, to which the result refers by their place.
        where: what the value is, for the error.

    Raises:
        CheckpointError: something else is among them.

    >>> found: list[Tensor] = []
    >>> pack({"lr": 0.1, "betas": (0.9, 0.999), "momentum": torch.zeros(2)}, found)
    {'lr': 0.1, 'betas': {'!': 'tuple', 'items': [0.9, 0.999]}, 'momentum': {'!': 'tensor', 'at': 0}}
    >>> unpack(pack((1, {2: None}), found), found)
    (1, {2: None})
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return {_TAG: "tensor", "at": _appended(value, tensors, where)}
    if isinstance(value, np.ndarray):
        return {_TAG: "array", "at": _appended(torch.from_numpy(np.ascontiguousarray(value)), tensors, where)}
    if isinstance(value, list | tuple):
        items = [pack(item, tensors, f"{where}[{k}]") for k, item in enumerate(value)]
        return items if isinstance(value, list) else {_TAG: "tuple", "items": items}
    if isinstance(value, Mapping):
        pairs = [(key, pack(item, tensors, f"{where}[{key!r}]")) for key, item in value.items()]
        if all(isinstance(key, str) for key, _ in pairs) and _TAG not in value:
            return dict(pairs)
        return {_TAG: "mapping", "items": [[pack(key, tensors, where), item] for key, item in pairs]}
    raise CheckpointError(
        f"A checkpoint holds numbers, texts and tensors, in lists, tuples and mappings; {where} is a "
        f"{type(value).__name__}, which cannot be saved. Run without checkpoints."
    )


def unpack(packed: Any, tensors: list[Tensor]) -> Any:
    """Return what `pack` was given, mappings as ``dict``."""
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    tag = packed.get(_TAG)
    if tag is None:
        return {key: unpack(item, tensors) for key, item in packed.items()}
    if tag == "tensor":
        return tensors[packed["at"]]
    if tag == "array":
        return tensors[packed["at"]].numpy()
    items = [unpack(item, tensors) for item in packed["items"]]
    return tuple(items) if tag == "tuple" else dict(items)


def _appended(tensor: Tensor, tensors: list[Tensor], where: str) -> int:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise CheckpointError(f"{where} is a sparse or quantised tensor, which a checkpoint cannot hold.")
    tensors.append(tensor.detach())
    return len(tensors) - 1
