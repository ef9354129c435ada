"""Requests for tests: a whole one that can be changed section by section, in a folder with what it names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SECTIONS = {
    "model": "model: {import: 'amnesty.requests.example:model'}",
    "data": "data: {training: {import: 'amnesty.requests.example:training'}}",
    "forget": "forget: {fraction: 0.1}",
}


def request(**sections: str) -> str:
    """A right request of three lines; sections given replace those of their name, or follow."""
    return "\n".join({**SECTIONS, **sections}.values()) + "\n"


def write(folder: Path, text: str, name: str = "request.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def furnish(folder: Path) -> None:
    """Put files of all kinds that a request can name into a folder; what is in them does not matter."""
    for name in ("m.safetensors", "m.pt", "train.parquet", "rows.txt", "users.txt", "mine.py"):
        (folder / name).write_text("0\n")
    (folder / "empty.txt").write_text("")
    (folder / "parts").mkdir()
    (folder / "parts" / "train-0.parquet").write_text("0")
    (folder / "images" / "cat").mkdir(parents=True)
    (folder / "unseen" / "cat").mkdir(parents=True)
    (folder / "old").mkdir()
    (folder / "old" / "m.pt").write_text("0")
    (folder / "hf").mkdir()
    (folder / "hf" / "config.json").write_text("{}")


PACKAGES = {"huggingface: hf": "transformers", "tensorboard": "tensorboard", "sign: {": "model_signing"}


def skip_without_packages(text: str) -> None:
    """Skip a test whose request needs an optional package that is not installed."""
    for said, package in PACKAGES.items():
        if said in text and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
