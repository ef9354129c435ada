"""A folder with one sub-folder of images a class; images are read when they are asked for."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from amnesty.data.pictures import Inputs, undecodable
from amnesty.errors import DataError, MissingExtraError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
METADATA = "metadata.csv"
_FILE_NAME = "file_name"
_OWN_COLUMNS = ("label", "path", "file")


class ImageFolder(Dataset[tuple[Tensor, Tensor]]):
    """Images in ``<folder>/<class>/<image>``, decoded at access and handed out as `Inputs` has them.

    Classes and images are sorted by name. Hidden files are passed over; files of other kinds are, too, and listed in
    ``ignored``. A class may have no image: its empty folder keeps the numbers of the others.

    A table ``metadata.csv`` with a column ``file_name`` (such as ``cat/1.png``) may give further facts on each image,
    to choose by with `Column`. So may ``path``, relative to the folder, and ``file``, its last part.

    Args:
        folder: only read.
        inputs: by default pixels in [0, 1] as they are.
        class_names: the classes to number by, in this order, where it is not the names of the sub-folders, sorted:
            those that another folder has, of which this one may lack some.
        limit: take the first so many images only.

    Attributes:
        labels: shape [n]. class_names, columns: see `amnesty.data.Examples`.
        ignored: files that are no images, relative to the folder.

    Raises:
        MissingExtraError: the ``data`` extra is not installed.
        DataError: no folder, no image, images that do not lie in a class's folder, links that lead out of the folder,
            a class that is not in ``class_names``, or a table that does not fit. Reading an example raises it for an
            image that cannot be decoded, or is of another size than the first.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        inputs: Inputs | None = None,
        class_names: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> None:
        _check_pillow()
        self.folder = Path(folder)
        self.inputs = Inputs() if inputs is None else inputs
        if not self.folder.is_dir():
            raise DataError(f"There is no folder {folder}; images are expected in sub-folders of it, one a class.")
        classes = [p.name for p in _entries(self.folder) if p.is_dir()]
        self.class_names = tuple(classes if class_names is None else class_names)
        self.ignored = tuple(_beside_classes(self.folder))
        paths: list[str] = []
        numbers: list[int] = []
        for name in classes:
            images, others = _images(self.folder, name)
            self.ignored += tuple(others)
            paths += images
            numbers += [self._number(name)] * len(images)
        count = len(paths) if limit is None else max(limit, 0)
        self.labels, kept = torch.tensor(numbers[:count], dtype=torch.int64), paths[:count]
        if not kept:
            raise DataError(f"No image in the sub-folders of {folder}, of which there are {len(classes)}.")
        self.columns = {
            "path": kept,
            "file": [p.rpartition("/")[2] for p in kept],
            **_facts(self.folder, kept, paths),
        }
        self._first = self._pixels(0).shape

    def _number(self, name: str) -> int:
        if name not in self.class_names:
            raise DataError(f"{self.folder / name} is no class: the classes are {', '.join(self.class_names[:20])}.")
        return self.class_names.index(name)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = self._pixels(index)
        self.inputs.expect(pixels.numpy(), self._first, self._name(index))
        return self.inputs.numbers(pixels), self.labels[index]

    def _name(self, index: int) -> str:
        return f"The image {self.folder / self.columns['path'][index]}"

    def _pixels(self, index: int) -> Tensor:
        from PIL import Image

        path, what = self.folder / self.columns["path"][index], self._name(index)
        try:
            with path.open("rb") as file, Image.open(file) as image:
                return torch.from_numpy(self.inputs.pixels(image, what))
        except DataError:
            raise
        except Exception as error:  # whatever a decoder may raise
            raise undecodable(what, error) from error


def _check_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pillow", "data", "Reading images") from error


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, sorted, hidden files left out; refuse what leads out of the data set's folder."""
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        if path.name.startswith("."):
            continue
        try:
            path.name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"The name of {str(path)!r} is not UTF-8 text. Rename it.") from error
        yield path


def _inside(root: Path, path: Path) -> None:
    if not path.is_symlink() and not path.parent.is_symlink():
        return
    if not path.exists():
        raise DataError(f"{path} is a link that leads nowhere.")
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{path} is a link that leads out of {root}, to {path.resolve()}. Copy what it leads to, or remove it."
        )


def _beside_classes(folder: Path) -> Iterator[str]:
    for path in _entries(folder):
        _inside(folder, path)
        if path.is_dir():
            continue
        if path.suffix.lower() in SUFFIXES:
            raise DataError(f"{path} lies beside the classes: every image must lie in the sub-folder of its class.")
        if path.name != METADATA:
            yield path.name


def _images(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Return the images of a class, and what else lies there, relative to ``folder``."""
    images: list[str] = []
    others: list[str] = []
    for path in _entries(folder / name):
        _inside(folder, path)
        if path.is_dir():
            raise DataError(f"{path} is a folder in the folder of a class: images must lie directly in {name!r}.")
        (images if path.suffix.lower() in SUFFIXES else others).append(f"{name}/{path.name}")
    return images, others


def _facts(folder: Path, paths: Sequence[str], everything: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of the folder's table, in the order of ``paths``."""
    table = folder / METADATA
    if not table.is_file():
        return {}
    rows = _rows(table)
    strange = sorted(rows.keys() - set(everything))
    missing = [path for path in paths if path not in rows]
    for what, names in (("names images that are not there", strange), ("has no row for some images", missing)):
        if names:
            raise DataError(f"{table} {what}, such as {', '.join(map(repr, names[:3]))} ({len(names)} in all).")
    columns = [column for column in rows[paths[0]] if column != _FILE_NAME]
    return {column: [rows[path][column] for path in paths] for column in columns}


def _rows(table: Path) -> dict[str, dict[str, str]]:
    """Return name of an image -> its row."""
    found: dict[str, dict[str, str]] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(table, reader.fieldnames or ())
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{table}, line {reader.line_num}: a row needs as many values as the first has.")
                name = row[_FILE_NAME]
                if name in found:
                    raise DataError(f"{table}, line {reader.line_num}: {name!r} has a row already.")
                found[name] = row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Cannot read {table}: {error}") from error
    return found


def _check_header(table: Path, names: Sequence[str]) -> None:
    if _FILE_NAME not in names:
        raise DataError(
            f"{table} needs a column {_FILE_NAME!r} in its first line, found {', '.join(names) or 'none'}."
        )
    if len(set(names)) < len(names):
        raise DataError(f"{table} has two columns of one name.")
    taken = [name for name in names if name in _OWN_COLUMNS]
    if taken:
        raise DataError(f"{table} must not have a column {taken[0]!r}: that of the folder has this name. Rename it.")
