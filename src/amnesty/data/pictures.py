"""How pictures become inputs: decoded, resized, grey or in colour, normalised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from amnesty.data.examples import Examples, input_and_label
from amnesty.errors import DataError, InvalidInputError

Channels = Literal[1, 3]

_GREY = ("1", "L", "LA", "La")
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a network takes where a picture is given; it must be what the network was trained with.

    Args:
        size: height and width to resize to (bilinear, antialiased), ``None`` as it is.
        channels: 1 (grey) or 3 (colour; transparency is dropped), ``None`` as it is.
        mean, std: of each channel, or one for all, for pixels in [0, 1]; an input is ``(pixels - mean) / std``.

    Raises:
        InvalidInputError: a value outside its range, or means and deviations that are not equally many.
    """

    size: tuple[int, int] | None = None
    channels: Channels | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or not all(_positive(x) for x in self.size)):
            raise InvalidInputError(f"`size` must be height and width, in pixels, found {self.size!r}.")
        if self.channels not in (None, 1, 3):
            raise InvalidInputError(f"`channels` must be 1 (grey) or 3 (colour), found {self.channels!r}.")
        if (self.mean is None) != (self.std is None):
            raise InvalidInputError("`mean` and `std` are given together or not at all.")
        if self.mean is not None and self.std is not None:
            self._check_normalising(self.mean, self.std)

    def _check_normalising(self, mean: Sequence[float], std: Sequence[float]) -> None:
        allowed = {1, self.channels} if self.channels else {1, 3}
        if len(mean) != len(std) or len(mean) not in allowed:
            raise InvalidInputError(
                f"`mean` and `std` need one number for each channel or one for all, found {len(mean)} and {len(std)}."
            )
        if not np.isfinite([*mean, *std]).all() or min(std) <= 0:
            raise InvalidInputError(f"`mean` must be finite and `std` positive, found {mean!r} and {std!r}.")

    def pixels(self, image: Any, what: str) -> np.ndarray:
        """Return the pixels of a PIL image, resized: uint8, shape [channels, height, width].

        A photograph that says that it lies on its side is turned, as the ``datasets`` library does.

        Args:
            image: may be one whose file is read only now.
            what: its name in messages.

        Raises:
            DataError: it cannot be decoded, or has more than 8 bits a channel.
        """
        from PIL import ImageOps
        from PIL.Image import Resampling

        try:
            if image.mode in _DEEP:
                raise DataError(f"{what} has the mode {image.mode}; convert it to 8 bits a channel.")
            image = ImageOps.exif_transpose(image)
            image = image.convert("L" if self._is_grey(image) else "RGB")
            if self.size is not None and image.size != self.size[::-1]:
                image = image.resize(self.size[::-1], Resampling.BILINEAR)
            pixels = np.array(image)
        except DataError:
            raise
        except Exception as error:  # whatever a decoder may raise
            raise undecodable(what, error) from error
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy()

    def _is_grey(self, image: Any) -> bool:
        return self.channels == 1 or (self.channels is None and image.mode in _GREY)

    def numbers(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels, shape [..., channels, height, width], as float32, normalised."""
        values = pixels.to(torch.float32).div_(255)
        if self.mean is None:
            return values
        mean, std = (torch.tensor(x, dtype=torch.float32).view(-1, 1, 1) for x in (self.mean, self.std))
        return values.sub_(mean).div_(std)

    def expect(self, pixels: np.ndarray, first: tuple[int, ...], what: str) -> None:
        """Raise `DataError` unless pixels have the shape of the ``first`` picture, and channels as the mean."""
        if self.mean is not None and len(self.mean) not in (1, len(pixels)):
            raise DataError(f"{what} has {len(pixels)} channels, `mean` and `std` have {len(self.mean)}.")
        if len(pixels) != first[0]:
            raise DataError(
                f"{what} has {len(pixels)} channels, those before it {first[0]}: set `channels` to 1 (grey) or 3."
            )
        if pixels.shape != first:
            raise DataError(
                f"Images must be of one size, found {list(first[1:])} and, of {what[0].lower()}{what[1:]}, "
                f"{list(pixels.shape[1:])} (height, width). Set `size` to resize them."
            )


def undecodable(what: str, error: Exception) -> DataError:
    """Return the error to raise for a picture that a decoder failed on."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return DataError(f"{what} is missing or cannot be decoded: {reason}")


class Normalised(Examples):
    """Pictures held in memory as uint8, handed out as `Inputs` has them.

    Args:
        images: uint8, shape [n, channels, height, width].
        inputs: its size and channels have been seen to.
        labels, class_names, columns: see `Examples`.
    """

    batched = True

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        class_names: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
        *,
        inputs: Inputs,
    ) -> None:
        super().__init__(images, labels, class_names, columns)
        self.inputs = inputs

    def __getitem__(self, index: int | list[int] | Tensor) -> tuple[Tensor, Tensor]:
        return self.inputs.numbers(self.images[index]), self.labels[index]

    def relabelled(self, labels: Tensor) -> Normalised:
        """Return the same images under other labels; the labels so far become the column ``true_label``."""
        columns = {"true_label": self.labels.numpy(), **self.columns}
        return Normalised(self.images, labels, self.class_names, columns, inputs=self.inputs)


class Converted(Dataset[tuple[Tensor, Any]]):
    """A data set of PIL images and labels, the images made inputs when they are asked for.

    Its columns and class names are those of ``dataset``.
    """

    def __init__(self, dataset: Dataset[Any], inputs: Inputs) -> None:
        self.same_facts_as, self.inputs = dataset, inputs
        first = inputs.pixels(input_and_label(dataset[0])[0], "Image 0")
        self._first = first.shape
        inputs.expect(first, self._first, "Image 0")

    def __len__(self) -> int:
        return len(self.same_facts_as)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = input_and_label(self.same_facts_as[index])
        if not hasattr(image, "convert"):
            raise DataError(f"Example {index} must hold a PIL image as the first does, found {type(image).__name__}.")
        pixels = self.inputs.pixels(image, f"Image {index}")
        self.inputs.expect(pixels, self._first, f"Image {index}")
        return self.inputs.numbers(torch.from_numpy(pixels)), label


def _positive(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number > 0
