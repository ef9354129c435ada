"""What stands in an audit.json, key by key; docs/audit.md says what each means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SCHEMA = 1

ANY = "*"
"""Stands for all keys of an object whose names are the user's."""

_FILE = {"sha256": str, "size": int}

SHAPE: dict[str, Any] = {
    "schema": int,
    "name": str,
    "forget": {"sets": {ANY: {"selector": object, "count": int}}, "count": int, "sha256": str},
    "model": {
        "before": {"files": {ANY: _FILE}, "tensors": str, "about": {ANY: object}},
        "after": {"files": [str], "tensors": str},
    },
    "method": {"name": str, "settings": {ANY: object}, "tuned": bool},
    "seed": int,
    "precision": str,
    "hardware": {"type": str, "name": str, "threads": int},
    "versions": {
        "amnesty": str,
        "commit": (str, None),
        "changed": (bool, None),
        "python": str,
        "torch": str,
        "numpy": str,
        "safetensors": str,
        "platform": str,
    },
    "time": {"started": str, "ended": str, "seconds": float, "sittings": int},
    "data": {"parts": {ANY: {"count": int, "sha256": str}}, "fingerprint": str},
    "holdout_protocol": str,
    "duplicates": {ANY: object},
    "training": {"records": int},
    "scores": {ANY: object},
    "findings": [{"question": str, "answer": str, "reason": str}],
    "chain": [
        {
            "name": str,
            "audit_sha256": str,
            "model_before": str,
            "model_after": str,
            "forgotten": int,
            "forgotten_sha256": str,
            "ended": str,
            "forgotten_classes": [int],
            "known": {ANY: float},
        }
    ],
    "rechecked": [{"name": str, "answer": str, "reason": str}],
    "warnings": [str],
    "signature": ({"by": str, "public_key": (str, None), "fingerprint": (str, None)}, None),
    "files": {ANY: _FILE},
    "sha256": str,
}
"""Keys and types: a type; a list of one; an object by key; or, in a tuple, one of several."""

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", None: "null"}


def faults(value: Any, shape: Any = None, name: str = "") -> Iterator[str]:
    """Yield what is missing from a document, or is of another type than `SHAPE` says.

    >>> list(faults({"seed": "0"}, {"seed": int, "name": str}))
    ['`seed` must be a whole number', '`name` is missing']
    """
    shape = SHAPE if shape is None else shape
    if isinstance(shape, dict):
        yield from _object_faults(value, shape, name)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"`{name}` must be a list"
            return
        for position, one in enumerate(value):
            yield from faults(one, shape[0], f"{name}[{position}]")
    elif isinstance(shape, tuple):
        if value is not None:
            yield from faults(value, shape[0], name)
    elif not _is(value, shape):
        yield f"`{name}` must be {_NAMES[shape]}"


def _object_faults(value: Any, shape: Mapping[str, Any], name: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"`{name}` must be an object" if name else "it must be an object"
        return
    inner = dict.fromkeys(value, shape[ANY]) if ANY in shape else shape
    for key, one in inner.items():
        path = f"{name}.{key}" if name else key
        if key not in value:
            yield f"`{path}` is missing"
        else:
            yield from faults(value[key], one, path)


def _is(value: Any, kind: type) -> bool:
    if kind is object:
        return True
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)
