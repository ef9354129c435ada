"""How images become inputs where the model's own folder tells, and the request does not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from amnesty.errors import ModelError
from amnesty.requests.models import trace
from amnesty.requests.pretrained import read_json
from amnesty.requests.request import InputsSpec, ModelSpec

PROCESSOR = "preprocessor_config.json"

_BILINEAR = 2
_WAY_OUT = "Give `data.inputs` in the request, or images that are inputs already by `import:`."


def inputs_of(model: ModelSpec, inputs: InputsSpec) -> tuple[InputsSpec, str]:
    """Return how images become inputs, and where that comes from.

    What the request leaves open is taken from the preprocessor_config.json of a Hugging Face model's folder: the
    size, the channels, and mean and deviation (these two together). For other models the request says everything.

    Raises:
        ModelError: that file cannot be read, or asks for what is not done here, such as cropping, and the request
            does not say what to do instead.
    """
    origin, _ = trace(model)
    path = Path(origin.name) / PROCESSOR
    if origin.kind != "huggingface" or not path.is_file():
        return inputs, "the request"
    config = read_json(path)
    taken: dict[str, Any] = {}
    if inputs.size is None and config.get("do_resize", True):
        taken["size"] = _size(config, path)
    if inputs.mean is None and inputs.std is None:
        taken |= _normalising(config, path)
    if inputs.channels is None:
        taken["channels"] = _channels(config, taken.get("mean") or inputs.mean)
    found = {key: value for key, value in taken.items() if value is not None}
    if not found:
        return inputs, "the request"
    note = ""
    if "size" in found and config.get("resample", _BILINEAR) != _BILINEAR:
        note = "; images are resized bilinearly, where it names another filter"
    return dataclasses.replace(inputs, **found), f"{', '.join(sorted(found))}: the model's {PROCESSOR}{note}"


def _size(config: dict[str, Any], path: Path) -> tuple[int, int] | None:
    size = config.get("size")
    if size is None:
        return None
    height, width = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    crops = config.get("do_center_crop") or config.get("crop_pct")
    if crops or not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        raise ModelError(
            f"{path} crops images or keeps their proportions (size {size}), which is not done here: images are only "
            f"resized to a height and a width. {_WAY_OUT}"
        )
    return height, width


def _normalising(config: dict[str, Any], path: Path) -> dict[str, Any]:
    factor = config.get("rescale_factor", 1 / 255)
    scaled = config.get("do_rescale", True) and isinstance(factor, float)
    if not scaled or not math.isclose(factor, 1 / 255, rel_tol=1e-6) or config.get("offset"):
        raise ModelError(f"{path} scales pixels by {factor!r}, where 1/255 was expected. {_WAY_OUT}")
    if not config.get("do_normalize", True):
        return {}
    found = {key: config.get(f"image_{key}") for key in ("mean", "std")}
    if all(value is None for value in found.values()):
        return {}
    for key, value in found.items():
        if not isinstance(value, list) or not all(isinstance(x, int | float) for x in value):
            raise ModelError(f"{path} must have `image_{key}`, a list of numbers, found {value!r}. {_WAY_OUT}")
    return {key: tuple(float(x) for x in value or ()) for key, value in found.items()}


def _channels(config: dict[str, Any], mean: tuple[float, ...] | None) -> int | None:
    if config.get("do_convert_rgb"):
        return 3
    return len(mean) if mean is not None and len(mean) in (1, 3) else None
