"""What a request for an image generator forgets and keeps, by hash: prompts, and images without their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from amnesty.tasks.diffusion import Prompt


def prompt_hash(prompt: Prompt) -> bytes:
    """Return the SHA-256 of a prompt; a class and the text of its number have different ones.

    >>> prompt_hash(3) != prompt_hash("3")
    True
    """
    kind = "text" if isinstance(prompt, str) else "class"
    return hashlib.sha256(f"prompt\n{kind}\n{prompt}".encode()).digest()


def image_hash(image: Tensor) -> bytes:
    """Return the SHA-256 of an image's type, shape and values, whatever its label.

    >>> image_hash(torch.zeros(1, 2, 2)) == image_hash(torch.zeros(1, 2, 2)) != image_hash(torch.zeros(1, 4))
    True
    """
    digest = hashlib.sha256(f"image\n{image.dtype}\n{list(image.shape)}\n".encode())
    digest.update(image.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def joined(hashes: Iterable[bytes]) -> str:
    """Return one SHA-256 (hex) of many, whatever their order."""
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()


class Hashed:
    """A data set of which no more is known than the hash of each example.

    Attributes:
        hashes: of prompts and images.
    """

    def __init__(self, hashes: Iterable[bytes]) -> None:
        self.hashes = list(hashes)

    def __len__(self) -> int:
        return len(self.hashes)

    def __getitem__(self, index: int) -> Any:
        return self.hashes[index]
