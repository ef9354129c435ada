"""Images as a backbone works on them: encoded once, or drawn by the original itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from amnesty.data import input_and_label
from amnesty.data.pictures import Inputs
from amnesty.errors import DataError, ShapeError
from amnesty.tasks.diffusion.conditions import Captions
from amnesty.tasks.diffusion.parts import Parts
from amnesty.tasks.diffusion.stored import Stored, fingerprint

_AT_ONCE = 16  # images


class Latents(Dataset[tuple[Tensor, Tensor]]):
    """Examples of what the backbone works on, with their captions; made when the first is asked for, and kept.

    An example is mean and deviation, shape [2 C, h, w], of which a step draws one image, and the number of a caption.

    Args:
        count: of examples.
        make: returns all of them, shape [n, 2 C, h, w], and the captions, shape [n].
    """

    batched = True

    def __init__(self, count: int, make: Callable[[], tuple[Tensor, Tensor]]) -> None:
        self._count, self._make = count, make

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """All examples and captions, on the CPU."""
        return self._make()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Any) -> tuple[Tensor, Tensor]:
        """Return an example, or the batch of a list of them."""
        latents, captions = self.tensors
        return latents[rows], captions[rows]


def encoded(
    data: Any,
    name: str,
    parts: Parts,
    size: tuple[int, int] | None,
    caption: Callable[[Any], int],
    stored: Stored,
) -> Latents:
    """Return the examples of a data set of images.

    Args:
        data: of images, or of pairs of an image and a label or caption.
        name: of the data set, for messages.
        parts: of the generator, whose autoencoder encodes.
        size: to which images are resized, in pixels; ``None``: they must be as the model takes them.
        caption: label of an example (``None`` where it has none) -> number of its caption.
        stored: where they are kept.

    Raises:
        DataError: a loader in place of a data set, nothing in it, or something that is no image.
    """
    if isinstance(data, DataLoader) or not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise DataError(f"The images of {name} must be a data set with a length, found {type(data).__name__}.")
    if len(data) == 0:
        raise DataError(f"There are no images of {name}.")

    def make() -> tuple[Tensor, Tensor]:
        found, captions = [], []
        coder = "pixels" if parts.vae is None else fingerprint(parts.vae)
        for start in range(0, len(data), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(data)))
            pairs = [_image_and_label(data[i]) for i in rows]
            shown = [
                _pixels(image, f"Image {i} of {name}", parts, size) for i, (image, _) in zip(rows, pairs, strict=True)
            ]
            pixels = torch.stack(shown)
            captions += [caption(label) for _, label in pairs]
            digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
            found.append(
                stored.get(
                    "latents",
                    f"{coder} {digest}",
                    lambda pixels=pixels: dict(zip(("mean", "std"), parts.encode(pixels), strict=True)),  # type: ignore[misc]
                )
            )
        latents = torch.cat([torch.cat([block["mean"], block["std"]], dim=1) for block in found])
        return latents, torch.tensor(captions)

    return Latents(len(data), make)


def drawn(
    captions: Captions,
    numbers: Sequence[int],
    seeds: Sequence[int],
    draw: Callable[[Sequence[Any], Sequence[int]], Tensor],
    key: Callable[[], str],
    stored: Stored,
) -> Latents:
    """Return examples that a model draws itself: one of each caption's prompts in turn, for each seed."""

    def make() -> tuple[Tensor, Tensor]:
        turns: dict[int, int] = {}
        prompts = []
        for number in numbers:
            choices = captions.prompts_of(number)
            turns[number] = turns.get(number, -1) + 1
            prompts.append(choices[turns[number] % len(choices)])
        found = stored.get("drawn", f"{key()} {prompts} {list(seeds)}", lambda: {"images": draw(prompts, seeds)})[
            "images"
        ]
        return torch.cat([found, torch.zeros_like(found)], dim=1), torch.tensor(list(numbers))

    return Latents(len(numbers), make)


def _image_and_label(example: Any) -> tuple[Any, Any]:
    if isinstance(example, list | tuple) and len(example) == 1:
        return example[0], None
    image, label = input_and_label(example)
    return (example, None) if image is None and not isinstance(example, dict) else (image, label)


def _pixels(image: Any, what: str, parts: Parts, size: tuple[int, int] | None) -> Tensor:
    """Return an image in [-1, 1], float32, shape [C, H, W]."""
    channels = parts.image_channels
    if isinstance(image, Tensor | np.ndarray):
        found = _of_tensor(torch.as_tensor(image), what)
        if size is not None and tuple(found.shape[1:]) != size:
            found = F.interpolate(found[None], size, mode="bilinear", antialias=True).clamp(0, 1)[0]
    elif hasattr(image, "convert") and hasattr(image, "mode"):
        inputs = Inputs(size=size, channels=channels if channels in (1, 3) else None)  # type: ignore[arg-type]
        found = torch.from_numpy(inputs.pixels(image, what)).float() / 255
    else:
        raise DataError(f"{what} must be a PIL image or a tensor [C, H, W], found {type(image).__name__}.")
    wanted = (channels, *(size or parts.size))
    if tuple(found.shape) != wanted:
        raise ShapeError(
            f"{what} has the shape {list(found.shape)}, but the model takes {list(wanted)}. Give `image_size` to "
            "have images resized."
        )
    return 2 * found - 1


def _of_tensor(image: Tensor, what: str) -> Tensor:
    if image.dim() == 3 and image.dtype == torch.uint8:
        return image.float() / 255
    if image.dim() != 3 or not image.is_floating_point():
        raise DataError(
            f"{what} must be uint8 or floats in [0, 1], shape [C, H, W]; found {image.dtype}, {list(image.shape)}."
        )
    if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
        raise DataError(f"{what} must have values in [0, 1], found {image.min():g} to {image.max():g}.")
    return image.float()
