"""Thumbnails of a dataset's images."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tune_mentormix.report.thumbnails import thumbnail

GENERATOR = np.random.default_rng(0)


def decoded(uri: str) -> Image.Image:
    """Returns the image that a data URI holds."""
    head, _, content = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert f"data:image/{image.format};base64".lower() == head
    return image


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (20, 48, 3), (1, 1, 3)])
def test_a_small_image_keeps_every_pixel(shape: tuple[int, int, int]) -> None:
    image = GENERATOR.integers(0, 256, shape, dtype=np.uint8)

    assert np.array_equal(np.asarray(decoded(thumbnail(image))).reshape(shape), image)


def test_a_large_image_is_shrunk_and_keeps_its_proportions_and_colours() -> None:
    image = np.full((300, 600, 3), (200, 40, 90), dtype=np.uint8)

    shown = decoded(thumbnail(image))

    assert shown.size == (96, 48)
    assert np.abs(np.asarray(shown).astype(int) - (200, 40, 90)).max() <= 4


def test_two_hundred_thumbnails_of_the_most_detailed_images_stay_below_three_megabytes() -> None:
    image = GENERATOR.integers(0, 256, (224, 224, 3), dtype=np.uint8)  # noise compresses worse than any photo

    assert len(thumbnail(image)) * 200 < 3_000_000
