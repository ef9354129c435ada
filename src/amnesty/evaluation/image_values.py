"""Images as numbers: 8 bit where they are kept, floats in [0, 1] where networks look at them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from amnesty.data import input_and_label
from amnesty.errors import DataError, ModelError, one_line
from amnesty.tasks import device_of, evaluating

AT_ONCE = 64  # images


def eight_bit(images: Tensor, what: str = "the images") -> Tensor:
    """Return images as uint8, as a PNG file has them: rounded to 256 levels; shape [n, C, H, W], on the CPU.

    Args:
        images: uint8, or floats in [0, 1].
        what: these are, for the message.

    Raises:
        DataError: another shape, or floats outside [0, 1]. They are not scaled: what is meant by them is not known.

    >>> eight_bit(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)).tolist()
    [[[[0, 128, 255]]]]
    """
    checked = _checked(images, what).cpu()
    return checked if checked.dtype == torch.uint8 else (checked.float() * 255).round().to(torch.uint8)


def floats(images: Tensor, what: str = "the images") -> Tensor:
    """Return images as float32 in [0, 1]; arguments and errors as `eight_bit`."""
    checked = _checked(images, what)
    return checked.float() / 255 if checked.dtype == torch.uint8 else checked.float()


def coloured(images: Tensor) -> Tensor:
    """Return images of three channels; grey ones are repeated, shape [n, 1 or 3, H, W] -> [n, 3, H, W]."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _checked(images: Tensor, what: str) -> Tensor:
    real = images.dtype == torch.uint8 or images.is_floating_point()
    if images.dim() != 4 or not len(images) or not real:
        raise DataError(
            f"{_capital(what)} must be uint8 or floats in [0, 1], shape [n, C, H, W], found {images.dtype} of shape "
            f"{list(images.shape)}."
        )
    if images.is_floating_point() and not bool(((images >= 0) & (images <= 1)).all()):
        raise DataError(
            f"{_capital(what)} must have values in [0, 1], found {float(images.min()):g} to {float(images.max()):g}; "
            "images in [-1, 1] become such by (x + 1) / 2."
        )
    return images


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def images_in(source: Any, what: str) -> Iterator[Tensor]:
    """Give the images of a data set in its order, some at a time and as they are, shape [B, C, H, W].

    What is given as floats is not rounded.

    Args:
        source: a tensor of images, see `eight_bit`, or a data set of images, or of pairs of an image and a label:
            PIL images or tensors [C, H, W].
        what: it is, for messages.

    Raises:
        DataError: something that is no image, or images of different sizes.
    """
    check_images(source, what)
    for start in range(0, len(source), AT_ONCE):
        if isinstance(source, Tensor):
            yield _checked(source[start : start + AT_ONCE], what)
            continue
        rows = range(start, min(start + AT_ONCE, len(source)))
        found = [_checked(_image(source[i], f"image {i} of {what}")[None], f"image {i} of {what}") for i in rows]
        if len({(one.shape, one.dtype) for one in found}) > 1:
            raise DataError(f"{_capital(what)} must be of one size and type, found several; resize them.")
        yield torch.cat(found)


def check_images(source: Any, what: str) -> None:
    """Raise `DataError` unless `images_in` could read ``source``; only the first image is looked at."""
    if isinstance(source, DataLoader) or not hasattr(source, "__getitem__") or not hasattr(source, "__len__"):
        raise DataError(
            f"{_capital(what)} must be a tensor or a data set with a length, found {type(source).__name__}."
        )
    if len(source) == 0:
        raise DataError(f"{_capital(what)} are none.")
    if isinstance(source, Tensor):
        _checked(source, what)
    else:
        _checked(_image(source[0], f"image 0 of {what}")[None], f"image 0 of {what}")


def _image(example: Any, what: str) -> Tensor:
    first, _ = input_and_label(example)
    image = example if first is None else first
    if isinstance(image, Tensor | np.ndarray):
        return torch.as_tensor(image)
    if not hasattr(image, "convert") or not hasattr(image, "mode"):
        raise DataError(f"{_capital(what)} must be a PIL image or a tensor [C, H, W], found {type(image).__name__}.")
    pixels = np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def looked_at(network: nn.Module, images: Tensor, what: str) -> Tensor:
    """Return what a network makes of images, float64, shape [n, K], on the CPU.

    It runs in evaluation mode, without gradients, on its own device.

    Args:
        network: maps images, float32 in [0, 1], shape [B, C, H, W], to a row of numbers each.
        images: see `eight_bit`.
        what: the network is, for messages.

    Raises:
        ModelError: the network cannot take them, or gives something else than a row of finite numbers for each.
        DataError: as `floats`.
    """
    device, blocks = device_of(network), torch.split(_checked(images, "the images"), AT_ONCE)
    try:
        with evaluating(network):
            found = torch.cat([network(floats(some).to(device)).double().cpu() for some in blocks])
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(
            f"{_capital(what)} cannot take images of shape {list(images.shape[1:])}: {one_line(error)}. Resizing and "
            "normalising belong into it, such as `nn.Sequential(Resize(224), Normalize(...), network)`."
        ) from error
    if found.dim() != 2 or len(found) != len(images) or not found.isfinite().all():
        raise ModelError(
            f"{_capital(what)} must give finite numbers of shape [{len(images)}, K], found {list(found.shape)}."
        )
    return found
