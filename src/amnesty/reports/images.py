"""Images as data URIs, so that the page needs no other file, and images that a file holds."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from numpy.typing import NDArray

from amnesty.reports.check import Checker

LARGEST = 128
"""Pixels of a side of an image that a file may hold."""

FEW = 48
"""Pixels of the longer side up to which an image is shown as squares, and not blurred."""

_LONGEST = 72  # pixels, as the page shows them; larger images are scaled down, to keep it light


def png_uri(pixels: NDArray[np.uint8], longest: int = _LONGEST) -> str:
    """A `data:image/png` URI of an image [H, W] (grey) or [H, W, 3] (red, green, blue), made smaller if need be."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if max(image.size) > longest:
        image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def checked_image(check: Checker, value: object, name: str) -> NDArray[np.uint8]:
    """The pixels [H, W, 3] of a PNG in base64; a fault where it is none, or larger than `LARGEST`."""
    from PIL import Image

    try:
        content = base64.b64decode(value if isinstance(value, str) else "", validate=True)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) <= LARGEST:
                return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass  # whatever is wrong with it, what is said is what it should be
    check.fault(name, f"a PNG in base64, of at most {LARGEST} pixels a side", value)
    return np.zeros((1, 1, 3), dtype=np.uint8)
