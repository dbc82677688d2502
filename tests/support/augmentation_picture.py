"""Draws docs/augmentation.png: what each augmentation makes of a photograph. `make docs` does not: it rarely changes.

    python -m tests.support.augmentation_picture

The photograph is `flower.jpg` of scikit-learn's sample images.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

from trainables.augment import AUGMENTATIONS

PICTURE = Path(__file__).parents[2] / "docs" / "augmentation.png"
SIDE, COLUMNS, GAP, LABEL_WIDTH = 72, 7, 4, 120  # pixels, but for the columns
COLOURS = 160  # of the palette: the file stays small
SEED = 2


def photograph() -> torch.Tensor:
    """Returns the middle of the photograph as [3, SIDE, SIDE] float in [0, 1]."""
    image = Image.fromarray(load_sample_image("flower.jpg"))
    side = min(image.size)
    left = (image.width - side) // 2
    small = image.crop((left, 0, left + side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3).permute(2, 0, 1) / 255


def draw() -> Image.Image:
    """Returns the picture: a row for each augmentation, of one photograph drawn several times."""
    step = SIDE + GAP
    picture = Image.new("RGB", (LABEL_WIDTH + COLUMNS * step, len(AUGMENTATIONS) * step + GAP), "white")
    labels, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    images = photograph().repeat(COLUMNS, 1, 1, 1)
    for row, (name, augment) in enumerate(AUGMENTATIONS.items()):
        top = GAP + row * step
        labels.text((GAP, top + SIDE // 2 - 8), name, fill="black", font=font)
        changed = augment(images, torch.Generator().manual_seed(SEED))
        pixels = (changed * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
        for column, tile in enumerate(pixels):
            picture.paste(Image.fromarray(tile.numpy()), (LABEL_WIDTH + column * step, top))
    return picture.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG)


if __name__ == "__main__":
    draw().save(PICTURE, optimize=True)
