"""Images as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

_LONGEST = 72  # pixels, as the page shows them; larger images are scaled down, to keep it light


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """A `data:image/png` URI of an image [H, W] (grey) or [H, W, 3] (red, green, blue)."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if max(image.size) > _LONGEST:
        image.thumbnail((_LONGEST, _LONGEST))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
