"""The data of a zero-shot request: images as they are, of whatever size, which the model's processor makes inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from amnesty.data import ImageFolder, Inputs, class_names, loading
from amnesty.data.examples import reads_batches
from amnesty.errors import DataError, UnknownNameError
from amnesty.requests.request import DataSpec, SourceSpec
from amnesty.requests.sources import Loaded, Named, Sources, first_of, imported, is_table, load_sources
from amnesty.tasks.zero_shot.pixels import PixelValues

_COLOUR = Inputs(channels=3)


class PictureFolder(ImageFolder):
    """An `ImageFolder` that hands images out as they are: uint8, shape [3, H, W], H and W those of the image."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._pixels(index), self.labels[index]


class PictureTable(Dataset[tuple[Tensor, Any]]):
    """A Hugging Face data set whose images are decoded when they are asked for: uint8, shape [3, H, W], each its own.

    Args:
        table: of Hugging Face.
        what: it is called in messages.
        image_column: by default the only column of images.
        column: what goes with each image: a class number, or with ``captioned`` a text; ``None``: nothing does.
        captioned: see there.
        inputs: how images become tensors; by default coloured ones as they are.

    Attributes:
        columns: the facts on each example that are no images, by name. class_names: where ``column`` knows them.

    Raises:
        DataError: there is no (single) column of images, or what goes with them is of another kind.
        UnknownNameError: there is no such column.
    """

    def __init__(
        self,
        table: Any,
        what: str,
        image_column: str | None,
        column: str | None,
        captioned: bool = False,
        inputs: Inputs = _COLOUR,
    ) -> None:
        names = table.column_names
        for one in (image_column, column):
            if one is not None and one not in names:
                raise UnknownNameError("column", one, names)
        pictures = [name for name in names if type(table.features[name]).__name__ == "Image"]
        self._column = image_column or loading.only_images(pictures, names)
        if self._column not in pictures:
            raise DataError(f"Column {self._column!r} does not hold images, but {table.features[self._column]}.")
        self._pictures, self._what, self._inputs = table.select_columns([self._column]), what, inputs
        if column is None:
            self.beside, self.columns, self.class_names = [0] * len(table), {}, None
            return
        self.beside = loading.column_of(table, column, what)
        self.columns = {
            name: loading.column_of(table, name, what) for name in names if name not in (*pictures, column)
        }
        self.class_names = None if captioned else getattr(table.features[column], "names", None)
        right = _is_text if captioned else _is_class
        wrong = [row for row, one in enumerate(self.beside) if not right(one)]
        if wrong:
            raise DataError(
                f"Column {column!r} of {what} must hold a {'text' if captioned else 'class number from 0'} for every "
                f"image, found {self.beside[wrong[0]]!r} in row {wrong[0]}."
            )
        if not captioned:
            self.labels = np.array(self.beside)

    def __len__(self) -> int:
        return len(self.beside)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        what = f"Image {index} of {self._what}"
        picture = loading.picture_at(self._pictures, int(index), self._column, what)
        return torch.from_numpy(self._inputs.pixels(picture, what)), self.beside[index]


def load_pictures(
    spec: SourceSpec, classes: Sequence[str] | None = None, captioned: bool = False, inputs: Inputs = _COLOUR
) -> Dataset[Any]:
    """Load one data set, its images as they are, with labels, or with ``captioned`` with captions.

    Args:
        spec: where it comes from. A function's data set may hold images of PIL or tensors.
        classes: names to number the sub-folders of images by, where these are not numbered among themselves.
        captioned: see above.
        inputs: how images of files become tensors; by default coloured ones as they are.

    Raises:
        MissingExtraError: a package that reads it is not installed.
        DataError: it cannot be read, is empty, or holds something else.
        InvalidInputError: a function cannot be called, or makes something else.
        UnknownNameError: there is no such column or function.
    """
    column = spec.caption_column if captioned else spec.label_column
    if spec.kind == "images":
        return PictureFolder(spec.name, inputs=inputs, class_names=classes, limit=spec.limit)
    if spec.kind == "import":
        return _imported(spec, column, captioned, inputs)
    table, what = open_table(spec)
    return PictureTable(table, what, spec.image_column, column, captioned, inputs)


def open_table(spec: SourceSpec) -> tuple[Any, str]:
    """Return the table of a source that is one, no longer than it says, and what it is called.

    Raises:
        MissingExtraError, DataError: as `load_pictures`.
    """
    what = f"the split {spec.split!r} of {spec.name}"
    table = loading.open_split(Path(spec.name) if spec.kind == "parquet" else spec.name, spec.split)
    return _first(table, spec.limit, what), what


def _first(table: Any, limit: int | None, what: str) -> Any:
    found = table if limit is None else table.select(range(min(limit, len(table))))
    if len(found) == 0:
        raise DataError(f"No image: {what} is empty.")
    return found


def _imported(spec: SourceSpec, column: str, captioned: bool, inputs: Inputs) -> Dataset[Any]:
    dataset = imported(spec)
    if is_table(dataset) and dataset.format["type"] is None:
        return PictureTable(
            _first(dataset, spec.limit, spec.name), spec.name, spec.image_column, column, captioned, inputs
        )
    if spec.limit is not None:
        dataset = Subset(dataset, range(min(spec.limit, len(dataset))))
    image, _ = first_of(dataset, spec.name)
    if not isinstance(image, Tensor) and not hasattr(image, "convert"):
        raise DataError(f"{spec.name} must give tensors or PIL images, found {type(image).__name__}.")
    named: Dataset[Any] = dataset if reads_batches(dataset) or is_table(dataset) else Named(dataset, spec.name)
    return named


def load_pixels(data: DataSpec, processor: Any) -> Sources:
    """Load all data sets of a zero-shot request, their images made what the model takes when they are asked for.

    Args:
        data: of the request.
        processor: see `amnesty.tasks.zero_shot.pixels.PixelValues`.

    Raises:
        InvalidInputError: see `load_pictures`.
        DataError: the data sets number the same classes differently.
    """
    return load_sources(data, load=partial(_load, processor=processor))


def _load(spec: SourceSpec, part: str, classes: Sequence[str] | None, processor: Any) -> Loaded:
    return Loaded(spec, PixelValues(load_pictures(spec, classes), processor, part), False)


def pictures_of(source: Dataset[Any]) -> Dataset[Any]:
    """Return a data set of `load_pixels` before its images became inputs."""
    assert isinstance(source, PixelValues)
    return source.same_facts_as


def names_in(source: Dataset[Any], given: Sequence[str] | None, what: str) -> tuple[str, ...]:
    """Return the words for the classes of a data set: those ``given``, or its own names.

    Raises:
        DataError: there are none, or not as many as the data set has.
    """
    own = class_names(source)
    if given is None and own is None:
        raise DataError(f"{what} does not name its classes: give the words for them, in the order of the labels.")
    if given is not None and own is not None and len(given) != len(own):
        raise DataError(f"{what} has {len(own)} classes, but {len(given)} words are given for them.")
    return tuple(given if given is not None else own or ())


def _is_class(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
