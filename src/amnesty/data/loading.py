"""Data sets of images: from a hub, from Parquet files, and the digits that every installation has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amnesty.data.examples import Examples
from amnesty.data.pictures import Channels, Inputs, Normalised, undecodable
from amnesty.errors import DataError, MissingExtraError, UnknownNameError, one_line


def load_images(
    name: str | Path,
    split: str = "train",
    image_column: str | None = None,
    label_column: str = "label",
    limit: int | None = None,
    *,
    size: tuple[int, int] | None = None,
    channels: Channels | None = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Examples:
    """Load labelled images into memory as uint8, shape [n, channels, H, W], handed out in [0, 1] or normalised.

    Args:
        name: a Hugging Face data set such as ``"uoft-cs/cifar10"``, or a Parquet file, or a folder of
            Parquet files named ``<split>-*.parquet``, of the same schema. No code of a data set is run.
        split: ``"train"``, ``"test"``, ...
        image_column: by default the only column of images.
        label_column: integers, or a class label with names.
        limit: take the first so many examples only.
        size: height and width to resize to; see `amnesty.data.Inputs`.
        channels: 1 or 3, or ``None`` for as many as the first image has.
        mean: of each channel, for pixels in [0, 1].
        std: likewise; an input is ``(pixels - mean) / std``.

    Columns that hold no images are kept: the example's user, source or date, to choose by with `Column`.

    Raises:
        MissingExtraError: the ``data`` extra is not installed.
        DataError: nothing found there, no (single) image column, images that are missing, cannot be decoded
            or are of different sizes, or missing labels.
        UnknownNameError: a column that does not exist.
        InvalidInputError: see `amnesty.data.Inputs`.
    """
    inputs = Inputs(size=size, channels=channels, mean=mean, std=std)
    return images_of(
        open_split(name, split), f"the split {split!r} of {name}", image_column, label_column, limit, inputs
    )


def images_of(
    table: Any, what: str, image_column: str | None, label_column: str, limit: int | None, inputs: Inputs
) -> Examples:
    """Load the images of a Hugging Face data set; ``what`` it is called in messages. See `load_images`."""
    if limit is not None:
        table = table.select(range(min(limit, len(table))))
    if len(table) == 0:
        raise DataError(f"No image: {what} is empty, or `limit` is 0.")
    columns = table.column_names
    for column in (image_column, label_column):
        if column is not None and column not in columns:
            raise UnknownNameError("column", column, columns)
    pictures = [c for c in columns if type(table.features[c]).__name__ == "Image"]
    chosen = image_column or only_images(pictures, columns)
    if chosen not in pictures:
        raise DataError(f"Column {chosen!r} does not hold images, but {table.features[chosen]}.")
    labels = column_of(table, label_column, what)
    if not all(isinstance(label, int) and label >= 0 for label in labels):
        raise DataError(f"Column {label_column!r} must hold a class number from 0 for every image.")
    names = getattr(table.features[label_column], "names", None)
    rest = {c: column_of(table, c, what) for c in columns if c not in (*pictures, label_column)}
    images, numbers = torch.from_numpy(_pixels(table, chosen, inputs)), torch.tensor(labels)
    if inputs.mean is None:
        return Examples(images, numbers, names, rest)
    return Normalised(images, numbers, names, rest, inputs=inputs)


def column_of(table: Any, name: str, what: str) -> Any:
    """Return a column of a Hugging Face data set, ``what`` it is called in messages. Raises `DataError`."""
    try:
        return table[name][:]
    except Exception as error:  # of bytes that are no text, say; Arrow has many errors
        raise DataError(f"Cannot read the column {name!r} of {what}: {one_line(error, named=False)}") from error


def open_split(name: str | Path, split: str) -> Any:
    """Return a split as a Hugging Face data set; see `load_images`. Raises `DataError`, `MissingExtraError`."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "data", "Loading images") from error
    path = Path(name)
    local = isinstance(name, Path) or path.is_absolute() or path.suffix == ".parquet" or path.is_dir()
    files = sorted(path.glob(f"{split}-*.parquet")) if path.is_dir() else [path]
    if local and not (files and all(f.is_file() for f in files)):
        raise DataError(f"No Parquet file of the split {split!r} at {path}.")
    try:
        return _read_parquet(files) if local else datasets.load_dataset(str(name), split=split)
    except Exception as error:  # of Arrow, of the network, of the data set's own description
        raise DataError(f"Cannot read the split {split!r} of {name}: {one_line(error, named=False)}") from error


def _read_parquet(files: list[Path]) -> Any:
    """Read into memory; unlike ``Dataset.from_parquet`` this leaves no copy in the user's cache."""
    import pyarrow as pa
    from datasets import Dataset, table
    from pyarrow import parquet

    return Dataset(table.InMemoryTable(pa.concat_tables([parquet.read_table(file) for file in files])))


def only_images(pictures: list[str], columns: list[str]) -> str:
    """Return the only column of images. Raises `DataError` if there is none, or more than one."""
    if len(pictures) != 1:
        raise DataError(
            f"Expected one column of images, found {pictures or 'none'} among {columns}; name it with `image_column`."
        )
    return pictures[0]


def _pixels(table: Any, column: str, inputs: Inputs) -> np.ndarray:
    """Return the images of a column as uint8, shape [n, channels, H, W]."""
    pictures = table.select_columns([column])  # a row decodes all its pictures
    pixels: np.ndarray | None = None
    for i in range(len(table)):
        what = f"Image {i} of column {column!r}"
        image = inputs.pixels(picture_at(pictures, i, column, what), what)
        if pixels is None:
            pixels = _room((len(table), *image.shape))
        inputs.expect(image, pixels.shape[1:], what)
        pixels[i] = image
    assert pixels is not None  # there is an image
    return pixels


def _room(shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{shape[0]} images of shape {list(shape[1:])} do not fit into memory. Set a smaller `size`, or put them "
            "into folders: images of folders are read one by one."
        ) from error


def picture_at(pictures: Any, index: int, column: str, what: str) -> Any:
    """Return an image of a column, decoded, ``what`` it is called in messages. Raises `DataError`."""
    try:
        image = pictures[index][column]
    except Exception as error:  # whatever a decoder may raise
        raise undecodable(what, error) from error
    if image is None:
        raise DataError(f"{what} is missing or cannot be decoded: there is none.")
    return image


def load_digits() -> Examples:
    """Load scikit-learn's 1,797 handwritten digits: float32, shape [1797, 1, 8, 8], in [0, 1].

    Source: UCI, Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998); shipped with
    scikit-learn, so that no download is needed.
    """
    from sklearn.datasets import load_digits as read  # heavy, and only needed here

    bunch = read()
    images = torch.from_numpy(bunch.images).to(torch.float32)[:, None] / 16
    return Examples(images, torch.from_numpy(bunch.target), [str(c) for c in range(10)])
