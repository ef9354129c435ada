"""Tensors that take long to compute, kept on disk for the next run."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from amnesty.errors import DataError, one_line


class Stored:
    """Tensors in a folder under names that say what they are of, so that they are computed once for all runs.

    Args:
        folder: ``None`` stores nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return what is stored as ``kind`` under ``key``, or make and store it.

        Raises:
            DataError: the file that is there is damaged.
        """
        if self._folder is None:
            return make()
        path = self._folder / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            save_file({name: value.contiguous() for name, value in make().items()}, temporary)
            temporary.replace(path)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise DataError(f"{path} is damaged and cannot be read ({one_line(error)}). Delete it.") from error


def fingerprint(model: nn.Module) -> str:
    """Return a text that is another one for other weights, names or shapes, on whatever device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
