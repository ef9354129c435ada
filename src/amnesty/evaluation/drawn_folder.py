"""A folder of drawn images: a manifest that says what they are, and a PNG file of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amnesty.errors import CheckpointError, DataError, MissingExtraError, ModelError, one_line
from amnesty.files import whole, write_json

SCHEMA = 1
MANIFEST = "manifest.json"


def open_folder(folder: Path, content: Mapping[str, Any]) -> None:
    """Make a folder and write its manifest, or see that the manifest is the same.

    Raises:
        CheckpointError: it is another one, there is none beside other files, or it cannot be read.
        MissingExtraError: Pillow is not installed.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; images need a folder.")
    _pillow()
    if not (folder / MANIFEST).is_file():
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise CheckpointError(f"{folder} holds other files and no {MANIFEST}: name another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / MANIFEST, content)
        return
    found = read_manifest(folder)
    other = [key for key in ("schema", "drawer", "seed", "prompts") if found.get(key) != content[key]]
    if other:
        raise CheckpointError(f"{folder} holds images of {_told(other[0], found, content)}: name another folder.")


def _told(key: str, found: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    if key != "drawer" or not isinstance(found.get("drawer"), Mapping):
        return {"prompts": "other prompts, or another number of them"}.get(key, f"another {key}")
    keys = {**content["drawer"], **found["drawer"]}
    differing = [name for name in keys if found["drawer"].get(name) != content["drawer"].get(name)]
    return f"another drawer ({', '.join(differing)})"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest; raises `CheckpointError` if it cannot be read or is of another schema."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {one_line(error)}.") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is no list of drawn images of schema {SCHEMA}.")
    return content


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "diffusion", "A folder of images") from error
    return Image


def write_image(path: Path, image: Tensor) -> None:
    """Write an image, uint8, shape [C, H, W], whole or not at all; raises `ModelError` unless it is grey or RGB."""
    if len(image) not in (1, 3):
        raise ModelError(f"PNG files hold 1 or 3 channels, found {len(image)}: draw without `folder`.")
    pixels = image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy()
    path.parent.mkdir(exist_ok=True)
    with whole(path) as temporary:
        _pillow().fromarray(pixels).save(temporary, format="PNG")


def read_image(path: Path) -> Tensor:
    """Return an image, uint8, shape [C, H, W]; raises `DataError` if it cannot be read."""
    try:
        with _pillow().open(path) as image:
            pixels = np.array(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}. Delete it and draw again.") from error
    found = torch.from_numpy(pixels)
    return found[None] if found.dim() == 2 else found.permute(2, 0, 1).contiguous()
