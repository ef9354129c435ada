"""Data that is there and cannot be used, under requests that are right."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.requests.bad_input_cases import (
    IMAGES,
    PARQUET,
    Case,
    cut,
    mine,
    png,
    right,
    training,
    write,
    write_parquet,
)

FOLDER = right(data=IMAGES, forget="forget: {classes: [cat]}")
TABLE = right(data=PARQUET)
ONE = right(forget="forget: {indices: [1]}")


def other_data(body: str) -> Callable[[Path], None]:
    """Return what puts other code before the end of the function that returns the training data."""
    return mine("    images, labels = examples(30, 0)\n", f"    images, labels = examples(30, 0)\n    {body}\n")


def other_rows(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    """Return what changes the rows of train.parquet."""
    return lambda folder: write_parquet(folder / "train.parquet", change)


def bomb(folder: Path) -> None:
    """Put a picture that claims to be of 40,000 by 40,000 pixels among the cats."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in (head, data)]
    (folder / "images" / "cat" / "00.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def of_another_size(rows: list[dict[str, Any]]) -> None:
    """Make an image one pixel higher than the others."""
    rows[9]["image"] = {"bytes": png(torch.zeros(5, 4, dtype=torch.uint8)), "path": None}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _renamed(rows: list[dict[str, Any]], old: str, new: str) -> None:
    for row in rows:
        row[new] = row.pop(old)


DATA: dict[str, Case] = {
    "a damaged image": Case(("cat/06.png", "decoded"), FOLDER, cut("images/cat/06.png", 40)),
    "an image that is text": Case(("cat/06.png", "decoded"), FOLDER, write("images/cat/06.png", "a cat\n")),
    "an image that is a bomb": Case(("cat/00.png", "decompression bomb"), FOLDER, bomb),
    "an image beside the classes": Case(("stray.png", "sub-folder"), FOLDER, write("images/stray.png", b"\x89PNG")),
    "a link out of the folder": Case(
        ("link.png", "leads out"), FOLDER, lambda folder: (folder / "images/cat/link.png").symlink_to("/etc/hostname")
    ),
    "a class that is a link out of the folder": Case(
        ("/fox", "leads out"), FOLDER, lambda folder: (folder / "images/fox").symlink_to("/etc")
    ),
    "folders without images": Case(
        ("No image",),
        right(data=training("images: hf"), forget="forget: {classes: [cat]}"),
        write("hf/cat/a.txt", ""),
    ),
    "a table of images that are not there": Case(
        ("metadata.csv", "cat/none.png"), FOLDER, write("images/metadata.csv", "file_name,user\ncat/none.png,3\n")
    ),
    "more classes in the data than in the model": Case(
        ("labels", "3 classes"),
        FOLDER,
        lambda folder: (folder / "images/cat/00.png").rename((_made(folder / "images/wolf")) / "00.png"),
    ),
    "Parquet that is none": Case(("train.parquet", "Cannot read"), TABLE, write("train.parquet", "label\n3\n")),
    "Parquet cut short": Case(("train.parquet", "Cannot read"), TABLE, cut("train.parquet", 2000)),
    "Parquet without rows": Case(("empty",), TABLE, other_rows(lambda rows: rows.clear())),
    "Parquet without labels": Case(
        ("'label'", "Did you mean 'labels'?"), TABLE, other_rows(lambda rows: _renamed(rows, "label", "labels"))
    ),
    "Parquet without images": Case(
        ("column of images",), TABLE, other_rows(lambda rows: [row.pop("image") for row in rows])
    ),
    "an image column that is none": Case(
        ("user_id", "does not hold images"),
        right(data=training("parquet: train.parquet, image_column: user_id")),
    ),
    "labels that are words": Case(
        ("'label'", "class number"), TABLE, other_rows(lambda rows: [row.update(label="cat") for row in rows])
    ),
    "a missing label": Case(("'label'", "class number"), TABLE, other_rows(lambda rows: rows[4].update(label=None))),
    "a label below 0": Case(("'label'", "class number"), TABLE, other_rows(lambda rows: rows[4].update(label=-1))),
    "a label too high": Case(
        ("labels", "3 classes", "1000"), TABLE, other_rows(lambda rows: rows[4].update(label=1000))
    ),
    "a damaged image in Parquet": Case(
        ("Image 3", "decoded"),
        TABLE,
        other_rows(lambda rows: rows[3].update(image={"bytes": b"\x89PNG", "path": None})),
    ),
    "a missing image in Parquet": Case(("Image 3",), TABLE, other_rows(lambda rows: rows[3].update(image=None))),
    "images of two sizes": Case(("image 9", "[5, 4]", "size"), TABLE, other_rows(of_another_size)),
    "a data function that is missing": Case(
        ("trianing", "Did you mean 'training'?"), right(data="data: {training: {import: 'mine.py:trianing'}}")
    ),
    "a data function that raises": Case(
        ("mine.py:training", "FileNotFoundError"), spoil=other_data("open('/no/such/file')")
    ),
    "a `DataLoader` for data": Case(
        ("DataLoader", "data set itself"), spoil=other_data("return DataLoader([(images[0], 0)])")
    ),
    "a mapping for data": Case(("dict",), spoil=other_data("return {'image': images, 'label': labels}")),
    "a stream for data": Case(("IterableDataset",), spoil=other_data("return IterableDataset()")),
    "a data function that leaves": Case(("mine.py:training", "SystemExit"), spoil=other_data("raise SystemExit(0)")),
    "nothing for data": Case(("NoneType",), spoil=other_data("return None")),
    "data that has no length": Case(
        ("length", "ZeroDivisionError"),
        spoil=other_data("return type('D', (list,), {'__len__': lambda self: 1 // 0})()"),
    ),
    "data that is shorter than it says": Case(
        ("Example 30 of", "IndexError"),
        ONE,
        other_data("return type('D', (), {'__len__': lambda s: 50, '__getitem__': lambda s, i: (images[i], 1)})()"),
    ),
    "labels that are letters": Case(
        ("labels", "<U1"),
        ONE,
        other_data("data = type('D', (list,), {'labels': ['a'] * 30})(zip(images, labels)); return data"),
    ),
    "no example in the data": Case(("empty",), spoil=other_data("return []")),
    "examples without labels": Case(("label",), spoil=other_data("return list(images)")),
    "examples that are text": Case(("str",), spoil=other_data("return ['cat', 'dog']")),
    "labels with a point": Case(
        ("Labels", "float64"),
        ONE,
        other_data("return [(x, float(y)) for x, y in zip(images, labels)]"),
    ),
    "inputs that are not finite": Case(("Example", "NaN"), spoil=other_data("images[11, 0, 0, 0] = float('nan')")),
    "inputs of two shapes": Case(
        ("one batch", "[1, 5, 4]"),
        ONE,
        other_data("return [(torch.zeros(1, 5, 4) if i == 9 else images[i], int(labels[i])) for i in range(30)]"),
    ),
    "data that fails at an example": Case(
        ("mine.py:training", "9", "ValueError: gone"),
        ONE,
        mine(
            "def training():\n",
            "class Failing(list):\n"
            "    def __getitem__(self, i):\n"
            "        if i == 9:\n"
            "            raise ValueError('gone')\n"
            "        return super().__getitem__(i)\n\n\n"
            "def training():\n"
            "    data = Failing((x, int(y)) for x, y in zip(*examples(30, 0)))\n"
            "    data.labels = [int(y) for _, y in list.__iter__(data)]\n"
            "    return data\n\n\n"
            "def old():\n",
        ),
    ),
    "an example to forget that is among the rest": Case(
        ("retain",), spoil=other_data("images[5], labels[5] = images[21], labels[21]")
    ),
    "classes that are numbered otherwise in the holdout data": Case(
        ("'owl'", "different orders"),
        spoil=mine("Examples(*examples(15, 1), NAMES)", "Examples(*examples(15, 1), NAMES[::-1])"),
    ),
    "a holdout part of other inputs": Case(
        ("holdout",),
        spoil=mine(
            "Examples(*examples(15, 1), NAMES)", "Examples(torch.rand(15, 1, 5, 5), torch.arange(15) % 3, NAMES)"
        ),
    ),
}
