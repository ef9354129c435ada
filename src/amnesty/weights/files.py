"""Weights in files: written as safetensors, read from these or from plain `torch.save` files, and hashed."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from amnesty.errors import ModelError, one_line
from amnesty.files import whole
from amnesty.weights.fitting import fitted

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "weights", "state_dict_ema", "model_ema")
"""Keys under which training scripts put the weights beside an optimiser, an epoch, ..."""

_CHUNK = 1 << 24  # entries that are hashed at once: what a tensor on a GPU takes of the main memory meanwhile
_WAY_OUT = "Save `model.state_dict()` with `safetensors.torch.save_file` and give that file."


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of a model's parameters and buffers, on the CPU, as safetensors takes them.

    Copies, since tied weights may not share memory in such a file.

    Raises:
        ModelError: the model's state holds something else than tensors.
    """
    return {name: value.cpu().clone().contiguous() for name, value in _state(model).items()}


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's parameters and buffers as safetensors, whole or not at all. Raises as `tensors_of`."""
    tensors = tensors_of(model)
    with whole(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(tensors, temporary)
        temporary.chmod(mode)  # that of any new file: safetensors makes files that only their owner can read


def load_weights(path: Path, model: nn.Module) -> None:
    """Load safetensors, or a ``torch.save`` file of nothing but tensors, into ``model``.

    The weights may stand under one of `WRAPPERS`, and their names may have the prefix of ``DataParallel`` or
    ``torch.compile``. The file is only read, and the model is as it was after an error.

    Raises:
        ModelError: the file cannot be read, holds more than tensors, does not fit the model, or holds weights that
            are not finite.
    """
    state = fitted(read_state(path), model, path)
    model.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name, on the CPU; no code in the file is run.

    Raises:
        ModelError: there is no such file, it is cut short, or holds something else than named tensors.
    """
    if path.is_dir():
        raise ModelError(f"{path} cannot be read as weights: it is a folder. Name the file in it.")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ModelError(f"{path} cannot be read as weights: {error.strerror or error}.") from error
    if not start:
        raise ModelError(f"{path} cannot be read as weights: it is empty.")
    if path.suffix == ".safetensors" or start[8:] == b"{":
        return _read_safetensors(path)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return _tensors_in(_read_pickle(path), path)
    raise ModelError(f"{path} cannot be read as weights: it is neither of safetensors nor of `torch.save`.")


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of a model's parameters and buffers; see `hash_tensors`.

    Equal for equal bits, on whatever device. A file that `save_weights` wrote has the same hash.
    """
    return hash_tensors(_state(model))


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of names, types, shapes and bytes; the order of the names does not matter.

    Read piece by piece: no copy of a whole tensor is made unless its entries lie apart in memory.

    >>> first = {"a": torch.zeros(2), "b": torch.ones(1)}
    >>> hash_tensors(first) == hash_tensors(dict(reversed(first.items()))) != hash_tensors({"a": torch.zeros(2)})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        flat = tensor.reshape(-1)
        for start in range(0, len(flat), _CHUNK):
            piece = flat[start : start + _CHUNK]
            digest.update(piece.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _state(model: nn.Module) -> dict[str, Tensor]:
    state = {name: value.detach() if isinstance(value, Tensor) else value for name, value in _items(model)}
    return _only_tensors(state, f"The state of the {type(model).__name__}")


def _items(model: nn.Module) -> list[tuple[str, Any]]:
    return list(model.state_dict().items())


def _only_tensors(state: Mapping[Any, Any], where: str) -> dict[str, Tensor]:
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(f"{where} must be tensors by name, but holds a {type(value).__name__} under {name!r}.")
        if value.layout != torch.strided or value.is_quantized:
            raise ModelError(f"{where} holds a sparse or quantised tensor under {name!r}; dense ones are needed.")
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:  # an unknown type is a KeyError
        raise ModelError(
            f"{path} cannot be read as weights: it is cut short, damaged or not of safetensors ({one_line(error)})."
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickle protocols: what matters is an error here
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ModelError(
            f"{path} holds more than plain tensors{f' ({named[1]})' if named else ''} and is not loaded: to load a "
            f"pickle can run code. {_WAY_OUT}"
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        if "TorchScript" in str(error):
            raise ModelError(
                f"{path} holds more than plain tensors (a TorchScript program) and is not loaded. {_WAY_OUT}"
            ) from error
        raise ModelError(
            f"{path} cannot be read as weights: it is cut short or damaged ({one_line(error)})."
        ) from error


def _tensors_in(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, not tensors by name. {_WAY_OUT}")
    under = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(under) > 1:
        raise ModelError(
            f"{path} holds several sets of weights: {', '.join(under)}. Save the one that is in use, with "
            "`safetensors.torch.save_file`."
        )
    if not under and not content:
        raise ModelError(f"{path} holds no tensor.")
    return _only_tensors(content[under[0]] if under else content, str(path))
