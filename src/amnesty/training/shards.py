"""Folders that hold a nested value: JSON, tensors in small files, and a list of what must be there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amnesty.training.packing import pack, unpack

SHARD = 8 * 2**20
"""Bytes of tensors in a file at most, so that writing and reading need little memory of their own."""

_MANIFEST, _STATE, _ABOUT = "manifest.json", "state.json", "about.json"
_SCHEMA = 1


def write_state(folder: Path, about: Any, state: Any) -> None:
    """Write ``state``, a value for `pack`, and the few facts ``about`` it to an empty folder, and reach the disk.

    Raises:
        CheckpointError: the state holds what cannot be saved.
        OSError: the folder cannot be written to, or the disk is full.
    """
    import safetensors.torch

    tensors: list[Tensor] = []
    document = {"state": pack(state, tensors), "tensors": [_form(tensor) for tensor in tensors]}
    files: dict[str, Any] = {}
    for name, content in ((_ABOUT, about), (_STATE, document)):
        files[name] = _write(folder / name, json.dumps(content).encode())
    for number, shard in enumerate(_shards(tensors)):
        name = f"tensors-{number:05}.safetensors"
        files[name] = _write(folder / name, safetensors.torch.save(shard))
    _write(folder / _MANIFEST, json.dumps({"schema": _SCHEMA, "files": files, "sha256": _own(files)}).encode())
    sync_folder(folder)


def damage(folder: Path) -> str | None:
    """Return what is wrong with a folder of `write_state`, such as a file that was cut; ``None`` if it is whole."""
    try:
        for name, wanted in _files(folder).items():
            if _facts((folder / name).read_bytes()) != wanted:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    except (ValueError, KeyError, TypeError, AttributeError):  # whatever a damaged JSON has become
        return f"{_MANIFEST} is damaged"
    return None


def _files(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / _MANIFEST).read_bytes())
    files: dict[str, Any] = manifest["files"]
    if manifest["schema"] != _SCHEMA or manifest["sha256"] != _own(files) or not {_ABOUT, _STATE} <= files.keys():
        raise ValueError
    return files


def read_about(folder: Path) -> dict[str, Any]:
    """Return the facts about the state in a folder without `damage`."""
    found: dict[str, Any] = json.loads((folder / _ABOUT).read_bytes())
    return found


def read_state(folder: Path, device: torch.device) -> Any:
    """Return the state in a folder without `damage`; tensors that were not on the CPU come to ``device``."""
    import safetensors.torch

    document = json.loads((folder / _STATE).read_bytes())
    cpu = torch.device("cpu")
    tensors = [
        torch.empty(form["shape"], dtype=getattr(torch, form["dtype"]), device=device if form["away"] else cpu)
        for form in document["tensors"]
    ]
    for path in sorted(folder.glob("tensors-*.safetensors")):
        for key, piece in safetensors.torch.load(path.read_bytes()).items():
            index, start = map(int, key.split("."))
            tensors[index].view(-1)[start : start + len(piece)].copy_(piece)
    for k, form in enumerate(document["tensors"]):
        if form["strides"] is not None:
            tensors[k] = torch.empty_strided(
                form["shape"], form["strides"], dtype=tensors[k].dtype, device=tensors[k].device
            ).copy_(tensors[k])
    return unpack(document["state"], tensors)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk, where the system can do that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _form(tensor: Tensor) -> dict[str, Any]:
    shape, strides = list(tensor.shape), list(tensor.stride())
    # Of other orders of the dimensions, such as channels last; not of tensors whose elements overlap.
    dense = torch.empty_like(tensor, device="meta").stride() == tensor.stride() and not tensor.is_contiguous()
    return {
        "shape": shape,
        "strides": strides if dense else None,
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "away": tensor.device.type != "cpu",
    }


def _shards(tensors: Sequence[Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors, flat and cut into pieces called ``<place>.<first element>``, a file at a time."""
    shard: dict[str, Tensor] = {}
    room = SHARD
    for index, tensor in enumerate(tensors):
        flat, most = tensor.reshape(-1), max(1, SHARD // tensor.element_size())
        for start in range(0, len(flat), most):
            piece = flat[start : start + most].to("cpu", copy=True)
            size = len(piece) * piece.element_size()
            if size > room and shard:
                yield shard
                shard, room = {}, SHARD
            shard[f"{index}.{start}"] = piece
            room -= size
    if shard:
        yield shard


def _write(path: Path, data: bytes) -> dict[str, Any]:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return _facts(data)


def _facts(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _own(files: Any) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
