"""Images from files: decoded, and brought to the size and the channels that a dataset or a network has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.errors import DatasetError


def read_image(path: Path, size: tuple[int, int] | None, channels: int = 3) -> NDArray[np.uint8]:
    """Decode one image.

    Args:
        path: of a file in any format that Pillow reads.
        size: height and width in pixels; the image is resized (bilinear, antialiased) until it just covers them,
            and the middle is kept. None: as it is.
        channels: 3 for RGB, 1 for grey; grey images are turned into RGB and the other way round, transparency is
            dropped.

    Returns:
        [H, W, channels] uint8.

    Raises:
        DatasetError: if it cannot be decoded.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB" if channels == 3 else "L")
    except FileNotFoundError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # a damaged file can raise almost anything in Pillow's decoders
        raise DatasetError(f"cannot decode {path}: {error}") from error
    if size is not None and image.size != (size[1], size[0]):
        image = _resize_and_crop(image, *size)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _resize_and_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    scale = max(width / image.width, height / image.height)
    scaled_width, scaled_height = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    image = image.resize((scaled_width, scaled_height), Image.Resampling.BILINEAR)
    left, top = (scaled_width - width) // 2, (scaled_height - height) // 2
    return image.crop((left, top, left + width, top + height))
