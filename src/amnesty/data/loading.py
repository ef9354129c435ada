"""Data sets of images: from a hub, from Parquet files, and the digits that every installation has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from amnesty.data.examples import Examples
from amnesty.errors import DataError, MissingExtraError, UnknownNameError


def load_images(
    name: str | Path,
    split: str = "train",
    image_column: str | None = None,
    label_column: str = "label",
    limit: int | None = None,
) -> Examples:
    """Load labelled images into memory as uint8, shape [n, 3, H, W], handed out in [0, 1].

    Args:
        name: a Hugging Face data set such as ``"uoft-cs/cifar10"``, or a Parquet file, or a folder of
            Parquet files named ``<split>-*.parquet``, of the same schema. No code of a data set is run.
        split: ``"train"``, ``"test"``, ...
        image_column: by default the only column of images.
        label_column: integers, or a class label with names.
        limit: take the first so many examples only.

    Columns that hold no images are kept: the example's user, source or date, to choose by with `Column`.

    Raises:
        MissingExtraError: the ``data`` extra is not installed.
        DataError: nothing found there, no (single) image column, images that are missing, cannot be decoded
            or are of different sizes, or missing labels.
        UnknownNameError: a column that does not exist.
    """
    table = _open(name, split)
    if limit is not None:
        table = table.select(range(min(limit, len(table))))
    if len(table) == 0:
        raise DataError(f"No image: the split {split!r} of {name} is empty, or `limit` is 0.")
    columns = table.column_names
    for column in (image_column, label_column):
        if column is not None and column not in columns:
            raise UnknownNameError("column", column, columns)
    pictures = [c for c in columns if type(table.features[c]).__name__ == "Image"]
    chosen = image_column or _only(pictures, columns)
    if chosen not in pictures:
        raise DataError(f"Column {chosen!r} does not hold images, but {table.features[chosen]}.")
    labels = table[label_column][:]
    if not all(isinstance(label, int) and label >= 0 for label in labels):
        raise DataError(f"Column {label_column!r} must hold a class number from 0 for every image.")
    names = getattr(table.features[label_column], "names", None)
    rest = {c: table[c][:] for c in columns if c not in (*pictures, label_column)}
    return Examples(torch.from_numpy(_pixels(table, chosen)), torch.tensor(labels), names, rest)


def _open(name: str | Path, split: str) -> Any:
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
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"Cannot read the split {split!r} of {name}: {error}") from error


def _read_parquet(files: list[Path]) -> Any:
    """Read into memory; unlike ``Dataset.from_parquet`` this leaves no copy in the user's cache."""
    import pyarrow as pa
    from datasets import Dataset, table
    from pyarrow import parquet

    return Dataset(table.InMemoryTable(pa.concat_tables([parquet.read_table(file) for file in files])))


def _only(pictures: list[str], columns: list[str]) -> str:
    if len(pictures) != 1:
        raise DataError(
            f"Expected one column of images, found {pictures or 'none'} among {columns}; name it with `image_column`."
        )
    return pictures[0]


def _pixels(table: Any, column: str) -> np.ndarray:
    """Return the images of a column as RGB: uint8, shape [n, 3, H, W]."""
    pictures = table.select_columns([column])  # a row decodes all its pictures
    pixels: np.ndarray | None = None
    for i in range(len(table)):
        try:
            image = np.asarray(pictures[i][column].convert("RGB")).transpose(2, 0, 1)
        except (AttributeError, OSError) as error:
            raise DataError(f"Image {i} of column {column!r} is missing or cannot be decoded: {error}") from error
        if pixels is None:
            pixels = np.empty((len(table), *image.shape), dtype=np.uint8)
        if image.shape != pixels.shape[1:]:
            raise DataError(
                f"Images must be of one size, found {list(pixels.shape[2:])} and, of image {i}, "
                f"{list(image.shape[1:])} (height, width)."
            )
        pixels[i] = image
    assert pixels is not None  # there is an image
    return pixels


def load_digits() -> Examples:
    """Load scikit-learn's 1,797 handwritten digits: float32, shape [1797, 1, 8, 8], in [0, 1].

    Source: UCI, Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998); shipped with
    scikit-learn, so that no download is needed.
    """
    from sklearn.datasets import load_digits as read  # heavy, and only needed here

    bunch = read()
    images = torch.from_numpy(bunch.images).to(torch.float32)[:, None] / 16
    return Examples(images, torch.from_numpy(bunch.target), [str(c) for c in range(10)])
