"""Data sets of pixel values, of image features that were computed once, and of captioned images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from amnesty.data import Joined, input_and_label
from amnesty.data.examples import read_batch, reads_batches
from amnesty.errors import AmnestyError, DataError, one_line
from amnesty.tasks.base import Source

CAPTIONS = ("caption", "captions", "text", "label")
_AT_ONCE = 256

Encode = Callable[[Tensor], Tensor]


class PixelValues(Dataset[tuple[Tensor, Any]]):
    """A data set whose images are made the pixel values that a model takes, when they are asked for.

    Args:
        dataset: of ``(image, label)``: PIL images, uint8 pixels, or floats in [0, 1], of three channels; or of pixel
            values, where ``processor`` is ``None``.
        processor: an image processor of transformers, or a callable of a PIL image such as open_clip's.
        name: of the part, for messages.

    Columns and class names are those of ``dataset``.
    """

    batched = True

    def __init__(self, dataset: Dataset[Any], processor: Any, name: str) -> None:
        self.same_facts_as, self._processor, self._name = dataset, processor, name

    def __len__(self) -> int:
        return len(self.same_facts_as)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> tuple[Tensor, Any]:
        """Return one example, or the batch of a list of indices: shape [B, 3, H, W], and the labels."""
        if isinstance(index, int | np.integer) or (isinstance(index, Tensor) and index.dim() == 0):
            inputs, labels = self[[int(index)]]
            return inputs[0], labels[0]
        rows = [int(i) for i in index]
        images, labels = self.read(rows)
        return self._values(images, rows), self.targets(labels, rows)

    def read(self, rows: list[int]) -> tuple[list[Any], list[Any]]:
        """Return images and labels of the data set as it has them."""
        dataset: Any = self.same_facts_as
        if not reads_batches(dataset):
            images, labels = zip(*(self.pair(dataset[i]) for i in rows), strict=True)
        else:
            images, labels = self.pair(read_batch(dataset, rows))
        if images is None or labels is None or any(label is None for label in labels):
            raise DataError(f"Example {rows[0]} of the {self._name} set or one after it lacks its image or label.")
        return list(images), list(labels)

    def pair(self, example: Any) -> tuple[Any, Any]:
        """Return the image and the label of one example, or those of a batch."""
        return input_and_label(example)

    def targets(self, labels: list[Any], rows: list[int]) -> Any:
        """Return the labels of a batch, shape [B]."""
        try:
            return torch.tensor([int(label) for label in labels])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"The {self._name} set has a label that is no class number: {one_line(error)}."
            ) from error

    def _values(self, images: list[Any], rows: list[int]) -> Tensor:
        if self._processor is None:
            return torch.stack([torch.as_tensor(image) for image in images])
        try:
            return processed(images, self._processor)
        except AmnestyError as error:
            raise DataError(f"Example {rows[0]} of the {self._name} set or one after it: {error}") from error


class ImageFeatures(Dataset[tuple[Tensor, Any]]):
    """What a frozen image tower makes of a data set of pixel values, computed at the first question and kept.

    Args:
        pixels: see `PixelValues`.
        encode: pixel values, shape [B, 3, H, W] -> features, shape [B, d].
    """

    batched = True

    def __init__(self, pixels: PixelValues, encode: Encode) -> None:
        self.same_facts_as, self._encode = pixels, encode
        self._features: Tensor | None = None
        self._labels: list[Any] = []

    def __len__(self) -> int:
        return len(self.same_facts_as)

    def __getitem__(self, index: Any) -> tuple[Tensor, Any]:
        """Return one example, or the batch of a list of indices: shape [B, d], and the labels."""
        features = self.features
        if isinstance(index, int | np.integer) or (isinstance(index, Tensor) and index.dim() == 0):
            return features[int(index)], self.same_facts_as.targets([self._labels[int(index)]], [int(index)])[0]
        rows = [int(i) for i in index]
        return features[rows], self.same_facts_as.targets([self._labels[i] for i in rows], rows)

    @property
    def features(self) -> Tensor:
        """All of them, on the CPU, shape [n, d]."""
        if self._features is None:
            found, labels = [], []
            for start in range(0, len(self), _AT_ONCE):
                rows = list(range(start, min(start + _AT_ONCE, len(self))))
                images, read = self.same_facts_as.read(rows)
                found.append(self._encode(self.same_facts_as._values(images, rows)).cpu())
                labels += read
            self._features, self._labels = torch.cat(found), labels
        return self._features


class Captioned(PixelValues):
    """A data set of ``(image, caption)``; a batch holds pixel values and token ids, shape [B, L].

    Args:
        dataset: pairs, or mappings with an image and one of `CAPTIONS`.
        processor, name: see `PixelValues`.
        reading: texts -> token ids.
    """

    def __init__(
        self, dataset: Dataset[Any], processor: Any, name: str, reading: Callable[[Sequence[str]], Tensor]
    ) -> None:
        super().__init__(dataset, processor, name)
        self._reading = reading

    def pair(self, example: Any) -> tuple[Any, Any]:
        """Return the image and the caption of one example, or those of a batch."""
        if isinstance(example, Mapping):
            return input_and_label(example)[0], next((example[key] for key in CAPTIONS if key in example), None)
        return input_and_label(example)

    def targets(self, labels: list[Any], rows: list[int]) -> Any:
        """Return the captions of a batch as token ids."""
        wrong = [row for row, label in zip(rows, labels, strict=True) if not isinstance(label, str)]
        if wrong:
            raise DataError(f"Example {wrong[0]} of the {self._name} set must be an image and its caption, a text.")
        return self._reading(labels).cpu()


def processed(images: list[Any], processor: Any) -> Tensor:
    """Return the pixel values of images, shape [B, 3, H, W].

    Raises:
        DataError: an image cannot be processed, or they come out in different shapes.
    """
    floats = [image for image in images if isinstance(image, Tensor) and image.is_floating_point()]
    if any(bool((image < 0).any() or (image > 1).any()) for image in floats):
        raise DataError(
            "images of floats must be in [0, 1] to be processed, and this one is not. If it was normalised already, "
            "pass `processor=(tokenizer, None)`."
        )
    try:
        if hasattr(processor, "image_mean") or hasattr(processor, "preprocess"):  # of transformers
            scaled = {"do_rescale": False} if floats else {}
            found = processor(images=images, return_tensors="pt", **scaled)["pixel_values"]
            return torch.as_tensor(found)
        return torch.stack([processor(_picture(image)) for image in images])
    except Exception as error:  # whatever a processor may raise
        raise DataError(f"the image processor failed: {one_line(error)}.") from error


def _picture(image: Any) -> Any:
    if not isinstance(image, Tensor):
        return image
    from PIL import Image

    pixels = (image * 255).round().to(torch.uint8) if image.is_floating_point() else image
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def prepared(source: Source, name: str, processor: Any, encode: Encode | None) -> Source:
    """Return a part as the classifier takes it.

    Args:
        source: a data set; a loader stays as it is and must give pixel values.
        name: of the part.
        processor: see `PixelValues`; ``None`` if the data has pixel values.
        encode: of the frozen image tower, to compute features once; ``None``: compute none.
    """
    if isinstance(source, DataLoader) or (processor is None and encode is None):
        return source
    pixels = PixelValues(source, processor, name)
    return pixels if encode is None else ImageFeatures(pixels, encode)


def pixels_of(source: Any) -> Any:
    """Return the pixel values of a part whose image features were computed once; any other part as it is."""
    if isinstance(source, Joined):
        return Joined([pixels_of(part) for part in source.datasets])
    if isinstance(source, Subset):
        return Subset(pixels_of(source.dataset), source.indices)
    return source.same_facts_as if isinstance(source, ImageFeatures) else source
