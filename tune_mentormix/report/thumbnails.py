"""A dataset's images as data URIs, for pages that show single images and load nothing from anywhere."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_SIDE = 96  # pixels; larger images are shrunk, smaller ones stay: a page enlarges them without blurring
_MAX_EXACT_SIDE = 48  # up to which an image is kept pixel by pixel; a photo of more would take 20 kB as PNG
_JPEG_QUALITY = 85


def thumbnail(image: NDArray[np.uint8], max_side: int = MAX_SIDE) -> str:
    """Returns an image [H, W, 1 or 3] uint8, at most `max_side` pixels a side, as a data URI of a PNG or JPEG file.

    A photo takes about 4 kB. Nothing of its file, such as its name or where it was taken, is in it.
    """
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    kind = "png" if max(picture.size) <= _MAX_EXACT_SIDE else "jpeg"
    content = io.BytesIO()
    if kind == "png":
        picture.save(content, "png", optimize=True)
    else:
        picture.save(content, "jpeg", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
