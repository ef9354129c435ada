"""What a model and the random generators are at a moment, to be put back later."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amnesty.errors import CheckpointError


def model_state(model: nn.Module) -> dict[str, Any]:
    """Return parameters, all buffers and what modules add to their ``state_dict``; nothing is copied."""
    own = nn.Module.get_extra_state
    return {
        "parameters": {name: p.detach() for name, p in model.named_parameters()},
        "buffers": dict(model.named_buffers()),
        "extra": {
            name: module.get_extra_state()
            for name, module in model.named_modules()
            if type(module).get_extra_state is not own
        },
    }


@torch.no_grad()
def load_model(model: nn.Module, state: dict[str, Any]) -> None:
    """Put a `model_state` back into a model of the same parameters, in place.

    Raises:
        CheckpointError: the model has other parameters; nothing was changed.
    """
    parameters = dict(model.named_parameters())
    found, wanted = ({n: list(v.shape) for n, v in x.items()} for x in (parameters, state["parameters"]))
    if found != wanted:
        other = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))[0]
        raise CheckpointError(
            f"The checkpoint is of a model with other parameters: {other!r} has shape {wanted.get(other)} there and "
            f"{found.get(other)} here."
        )
    for name, value in state["parameters"].items():
        parameters[name].copy_(value)
    for name, value in state["buffers"].items():
        home, _, attribute = name.rpartition(".")
        buffers = model.get_submodule(home)._buffers
        here = buffers.get(attribute)
        if here is not None and here.shape == value.shape and here.dtype == value.dtype:
            here.copy_(value)
        else:
            buffers[attribute] = value
    for name, extra in state["extra"].items():
        model.get_submodule(name).set_extra_state(extra)


def tensors_hash(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of tensors, by name: types, shapes and bits."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        flat = tensor.detach().reshape(-1)
        for start in range(0, len(flat), _PIECE):
            digest.update(flat[start : start + _PIECE].cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


_PIECE = 2**22


def model_hash(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of a model's parameters and buffers."""
    return tensors_hash({**dict(model.named_parameters()), **dict(model.named_buffers())})


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators of torch (CPU and, on CUDA, ``device``), NumPy and `random`."""
    of_numpy: Any = np.random.get_state(legacy=False)
    of_numpy = {**of_numpy, "state": {**of_numpy["state"], "key": of_numpy["state"]["key"].tolist()}}
    found = {"torch": torch.get_rng_state(), "numpy": of_numpy, "random": random.getstate()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Put `random_states` back."""
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    inner = states["numpy"]["state"]
    key = np.asarray(inner["key"], dtype=np.uint32)
    np.random.set_state({**states["numpy"], "state": {**inner, "key": key}})
    random.setstate(states["random"])
