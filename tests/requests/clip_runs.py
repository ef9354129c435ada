"""Requests on CLIP in miniature: of 96 digits in four colours it is to forget one colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils.data import Dataset

from amnesty.data import Examples
from amnesty.requests.running import Result
from tests.requests import whole_runs
from tests.requests.whole_runs import run

pytest.importorskip("transformers", reason="the `clip` extra is not installed")
pytest.importorskip("tests.vision", reason="timm or torchvision is not installed")

from tests import tiny_clip
from tests.requests.bad_input_cases import png

HERE = "tests.requests.clip_runs"
TEMPLATES = list(tiny_clip.COLOUR_TEMPLATES)
STEPS = 50  # after which the colours are known, and the digits are not
QUICK = {"name": "munba", "lr": 0.004, "epochs": 1, "at_least": 4, "rounds": 1, "batch_size": 32}


class Pairs(Dataset[Any]):
    """Images with captions."""

    def __init__(self, images: torch.Tensor, texts: tuple[str, ...]) -> None:
        self.images, self.texts = images, texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        return self.images[index], self.texts[index]


def training(count: int = 96) -> Examples:
    """Labelled by colour; what digit it is stands in a column."""
    data, digits = tiny_clip.coloured("train"), tiny_clip.images("train")
    return Examples(data.images[:count], data.labels[:count], data.class_names, {"digit": digits.labels[:count]})


def unseen(count: int = 64) -> Examples:
    data = tiny_clip.coloured("test")
    return Examples(data.images[:count], data.labels[:count], data.class_names)


def digits() -> Examples:
    """Another data set, whose images are the same but whose classes are not."""
    data = tiny_clip.images("test")
    return Examples(data.images[64:128], data.labels[64:128], data.class_names)


def captioned(start: int = 64, count: int = 24) -> Pairs:
    rows = slice(start, start + count)
    return Pairs(tiny_clip.images("test").images[rows], tiny_clip.captions("test")[rows])


def towers() -> Any:
    """The model itself and its processor, as a function of the user's returns them."""
    return tiny_clip.trained(STEPS), tiny_clip.processor()


def source(name: str, **options: Any) -> dict[str, Any]:
    return {"import": f"{HERE}:{name}", **({"options": options} if options else {})}


def content(**changed: Any) -> dict[str, Any]:
    """A right request; sections given replace those of their name, ``None`` leaves out."""
    usual = {
        "task": "zero-shot",
        "model": {"huggingface": "my-clip"},
        "data": {"training": source("training"), "holdout": source("unseen")},
        "forget": {"classes": ["red"]},
        "zero_shot": {"templates": TEMPLATES},
        "method": QUICK,
        "duplicates": {"near": ["exact"]},
        "checkpoint": {"steps": 3},
    }
    return {key: value for key, value in {**usual, **changed}.items() if value is not None}


def asked(home: Path, **changed: Any) -> Path:
    """Write a request, and the model that it names."""
    if not (home / "my-clip").exists():
        tiny_clip.folder(home / "my-clip", tiny_clip.trained(STEPS))
    whole = content(**changed)
    return whole_runs.written(home, whole, str(changed.get("name", "request")))


def ran(home: Path, out: str, **changed: Any) -> Result:
    return quickly(asked(home, **changed), home / out)


def quickly(path: Path, out: Path, **options: Any) -> Result:
    """Run the request in a file without drawing its page, which takes most of the time of such a run."""
    with mock.patch("amnesty.reports.request_page.render", return_value=b"<p>A page</p>"):
        return run(path, out, **options)


def write_parquet(path: Path, images: torch.Tensor, column: str, values: Any, names: Any = None) -> None:
    """Write images as PNG files in a table, with one column beside; ``names`` make it one of classes."""
    import datasets

    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    rows = {"image": [{"bytes": png(one), "path": None} for one in pixels], column: values}
    table = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    kind = None if names is None else datasets.ClassLabel(names=list(names))
    (table if kind is None else table.cast_column(column, kind)).to_parquet(path)
