"""Weights in files: written as safetensors, read from these or from plain `torch.save` files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from amnesty.errors import ModelError
from amnesty.files import whole


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of a model's parameters and buffers, on the CPU, as safetensors takes them.

    Copies, since tied weights may not share memory in such a file.
    """
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's parameters and buffers as safetensors, whole or not at all."""
    with whole(path) as temporary:
        save_file(tensors_of(model), temporary)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load safetensors, or a ``torch.save`` file of nothing but tensors, into ``model``.

    Raises:
        ModelError: the file cannot be read, holds more than tensors, or does not fit the model.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path} cannot be read as weights: {error}") from error
    except Exception as error:  # pickle's own errors, of which there are many
        raise ModelError(
            f"{path} holds more than plain tensors and is not loaded: {error}. Save `model.state_dict()` with "
            "`safetensors.torch.save_file`."
        ) from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} does not fit the task's {type(model).__name__}: {error}") from error
