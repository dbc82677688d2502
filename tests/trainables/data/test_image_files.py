"""Images from files have the size and the channels asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.image_folder import read_image
from trainables.errors import DatasetError


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("L", 3), ("RGB", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)])
@pytest.mark.parametrize("size", [(8, 8), (10, 6), (40, 50)])
def test_any_image_gets_the_size_and_channels_asked_for(
    tmp_path: Path, mode: str, channels: int, size: tuple[int, int]
) -> None:
    Image.new(mode, (30, 20)).save(tmp_path / "a.png")

    image = read_image(tmp_path / "a.png", size, channels)

    assert image.shape == (*size, channels)
    assert image.dtype == np.uint8


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    np.testing.assert_array_equal(read_image(tmp_path / "a.png", (8, 8), 1)[..., 0], pixels)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")

    with pytest.raises(DatasetError, match=r"cannot decode .*a\.png"):
        read_image(tmp_path / "a.png", None)
