"""What the table of bad input is made of: a case, and a folder in which a request is right until it is spoilt."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from amnesty.weights import save_weights
from tests.requests import writing

MINE = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from amnesty.data import Examples

NAMES = ["cat", "dog", "owl"]


def network(classes=3, bias=True):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes, bias=bias))


def examples(count, seed):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randint(120, (count, 1, 4, 4), generator=draw)
    images.view(count, 16)[torch.arange(count), labels] = 250
    return images / 255, labels


def training():
    images, labels = examples(30, 0)
    return Examples(images, labels, NAMES, {"user_id": [i // 3 for i in range(30)]})


def unseen():
    return Examples(*examples(15, 1), NAMES)
"""
"""Three classes, each with a bright pixel of its own; ten users with three examples each."""

BASE = {
    "model": "model: {import: 'mine.py:network', weights: m.safetensors}",
    "data": "data: {training: {import: 'mine.py:training'}, holdout: {import: 'mine.py:unseen'}}",
    "forget": "forget: {column: user_id, values: [7]}",
    "method": "method: {name: finetune, epochs: 1, lr: 0.001}",
    "duplicates": "duplicates: {near: [exact]}",
    "out": "out: result",
}


def right(**sections: str) -> str:
    """A right request of six lines; sections given replace those of their name, or follow."""
    return writing.request(**{**BASE, **sections})


def training(source: str) -> str:
    """The data section with other training data: a grey Parquet file, folder or function."""
    return f"data: {{training: {{{source}}}, inputs: {{channels: 1}}}}"


PARQUET, IMAGES = training("parquet: train.parquet"), training("images: images")


def nothing(folder: Path) -> None:
    """Spoil nothing: it is the request that is wrong."""


@dataclass(frozen=True)
class Case:
    """A command that must fail.

    Attributes:
        says: words that its message must have.
        request: content of request.yaml.
        spoil: changes the folder before.
        more: arguments after ``unlearn request.yaml``. command: what is called instead.
        within: what goes on meanwhile.
        faults: how many; each has a line, and several have a line above them.
        needs: packages that must be installed.
        changes: files that count how often somebody sat down to a run.
    """

    says: tuple[str, ...]
    request: str = field(default_factory=right)
    spoil: Callable[[Path], object] = nothing
    more: tuple[str, ...] = ()
    command: tuple[str, ...] = ("unlearn", "request.yaml")
    within: Callable[[Path], AbstractContextManager[object]] = lambda folder: nullcontext()
    faults: int = 1
    needs: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


def mine(old: str, new: str) -> Callable[[Path], None]:
    """Return what changes a word of the functions that a request names."""

    def spoil(folder: Path) -> None:
        assert old in MINE
        (folder / "mine.py").write_text(MINE.replace(old, new))

    return spoil


def write(name: str, content: bytes | str) -> Callable[[Path], None]:
    """Return what writes a file."""

    def spoil(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def both(*spoils: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what does one after the other."""

    def spoil(folder: Path) -> None:
        for one in spoils:
            one(folder)

    return spoil


class Touch:
    """Unpickled, it makes a file: what must never be there."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


def cut(name: str, length: int) -> Callable[[Path], object]:
    """Return what cuts a file short."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:length])


def knowing_network() -> nn.Module:
    """The network of `MINE` with weights that see each class's pixel."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        model[1].weight.copy_(10 * torch.eye(3, 16))
        model[1].bias.zero_()
    return model


def spoilt_weights(change: Callable[[nn.Linear], object]) -> Callable[[Path], None]:
    """Return what writes other weights in place of the right ones."""

    def spoil(folder: Path) -> None:
        model = knowing_network()
        with torch.no_grad():
            change(model[1])
        save_weights(folder / "m.safetensors", model)

    return spoil


def pixels(count: int, seed: int) -> tuple[torch.Tensor, list[int]]:
    """The images of `MINE` as bytes, shape [count, 4, 4], and their classes."""
    scope: dict[str, object] = {}
    exec(MINE, scope)
    images, labels = scope["examples"](count, seed)  # type: ignore[operator]
    return (images[:, 0] * 255).round().to(torch.uint8), labels.tolist()


def png(image: torch.Tensor) -> bytes:
    """One image, shape [height, width], as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.numpy()).save(file, "png")
    return file.getvalue()


def write_parquet(path: Path, change: Callable[[list[dict[str, object]]], object] = lambda rows: None) -> None:
    """Write the training data as Parquet, its rows changed before."""
    datasets = pytest.importorskip("datasets")
    images, labels = pixels(30, 0)
    rows: list[dict[str, object]] = [
        {"image": {"bytes": png(image), "path": None}, "label": label, "user_id": i // 3}
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    names = list(rows[0])
    change(rows)
    columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else names)}
    table = datasets.Dataset.from_dict(columns)
    for key in ("image", "picture"):
        if key in columns:
            table = table.cast_column(key, datasets.Image())
    table.to_parquet(path)


def write_images(folder: Path) -> None:
    """Write the training data as a folder of images."""
    for i, (image, label) in enumerate(zip(*pixels(30, 0), strict=True)):
        path = folder / ("cat", "dog", "owl")[label] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


def furnish(folder: Path) -> None:
    """Write everything that right requests name."""
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(MINE)
    (folder / "rows.txt").write_text("3 4 5\n")
    save_weights(folder / "m.safetensors", knowing_network())
    write_images(folder / "images")
    write_parquet(folder / "train.parquet")
    (folder / "request.yaml").write_text(right())


def contents(folder: Path) -> Iterator[tuple[str, str | bytes]]:
    """Give everything below a folder, with what it holds: files their bytes, links where they lead."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "__pycache__" in name:  # Python's, of the functions that requests name
            continue
        yield name, (str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "")
