"""TrivialAugment in its wide variant, batched: each image gets one random operation (Müller and Hutter 2021).

Images are [B, C, H, W] float in [0, 1], C 1 or 3. As in `trainables.augment`, every change is drawn first and applied
second, without a loop over images and without a wait for the device. Operations and ranges are those of torchvision's
`TrivialAugmentWide`.
"""

from __future__ import annotations

from math import pi
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, grid_sample

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOURS = ("brightness", "colour", "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize")
OPERATIONS = ("identity", *GEOMETRIC, *COLOURS)
MAGNITUDES = 31  # strengths of an operation, 0 the weakest
MAX_SHEAR = 0.99
MAX_TRANSLATION = 32.0  # pixels
MAX_ROTATION = 135.0  # degrees
MAX_ENHANCEMENT = 0.99
GREY = (0.2989, 0.587, 0.114)  # the parts of red, green and blue in the brightness of a pixel


class Operation(NamedTuple):
    """What happens to each image."""

    number: Tensor  # [B] int64, of `OPERATIONS`
    strength: Tensor  # [B] in [0, 1]
    sign: Tensor  # [B] −1 or 1; for operations that go both ways


def draw_operation(images: Tensor, generator: Generator) -> Operation:
    """Draws an operation, a strength of 31 and a sign for each image, all as likely."""
    size, device = (len(images),), images.device
    number = torch.randint(len(OPERATIONS), size, generator=generator, device=device)
    strength = torch.randint(MAGNITUDES, size, generator=generator, device=device) / (MAGNITUDES - 1)
    sign = 2.0 * torch.randint(2, size, generator=generator, device=device) - 1
    return Operation(number, strength, sign)


def apply_operation(images: Tensor, operation: Operation) -> Tensor:
    """Applies to each image its operation; pixels that come from outside of an image are black."""
    is_moved = (operation.number >= 1) & (operation.number <= len(GEOMETRIC))
    images = torch.where(_per_image(is_moved), _moved(images, operation), images)
    factor = _per_image(1 + MAX_ENHANCEMENT * operation.strength * operation.sign)
    strength = _per_image(operation.strength)
    changed = {
        "brightness": images * factor,
        "colour": _blend(images, _grey(images), factor) if images.shape[1] == 3 else images,
        "contrast": _blend(images, _grey(images).mean(dim=(2, 3), keepdim=True), factor),
        "sharpness": _sharpened(images, factor),
        "posterize": _posterized(images, 8 - torch.round(6 * strength)),
        "solarize": torch.where(images >= 1 - strength, 1 - images, images),
        "auto_contrast": _auto_contrast(images),
        "equalize": _equalized(images),
    }
    result = images
    for name in COLOURS:
        result = torch.where(_per_image(operation.number == OPERATIONS.index(name)), changed[name], result)
    return result.clamp(0, 1)


def _moved(images: Tensor, operation: Operation) -> Tensor:
    """Shears about the upper left corner, shifts by whole pixels, or turns about the middle, with interpolation."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2  # from the middle, in pixels
    columns = torch.arange(width, device=images.device) - (width - 1) / 2

    def amount(name: str, maximum: float) -> Tensor:
        """Returns the signed amount of one operation, [B, 1, 1]; 0 for images with another one."""
        is_chosen = operation.number == OPERATIONS.index(name)
        return (maximum * operation.strength * operation.sign * is_chosen).view(-1, 1, 1)

    angle = amount("rotate", MAX_ROTATION) * (pi / 180)
    # Where the pixels of the result come from, [B, H, W]: each image has only one of these.
    source_columns = columns * angle.cos() - rows * angle.sin()
    source_rows = columns * angle.sin() + rows * angle.cos()
    source_columns = source_columns + amount("shear_x", MAX_SHEAR) * (rows + height / 2)
    source_rows = source_rows + amount("shear_y", MAX_SHEAR) * (columns + width / 2)
    source_columns = source_columns - amount("translate_x", MAX_TRANSLATION).trunc()
    source_rows = source_rows - amount("translate_y", MAX_TRANSLATION).trunc()
    grid = torch.stack([source_columns * (2 / width), source_rows * (2 / height)], dim=3)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * others).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    return GREY[0] * images[:, 0:1] + GREY[1] * images[:, 1:2] + GREY[2] * images[:, 2:3]


def _sharpened(images: Tensor, factor: Tensor) -> Tensor:
    """Blends with a 3×3 blur, whose middle weighs 5 of 13; the border stays."""
    if min(images.shape[2:]) <= 2:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    blurred = (9 * avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = factor * inner + (1 - factor) * blurred
    return result.clamp(0, 1)


def _posterized(images: Tensor, bits: Tensor) -> Tensor:
    levels = torch.exp2(bits)
    return torch.minimum(torch.floor(images * levels), levels - 1) / levels


def _auto_contrast(images: Tensor) -> Tensor:
    """Stretches each channel to [0, 1]; one of a single value stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    is_flat = low == high
    return torch.where(is_flat, images, (images - low) / torch.where(is_flat, 1, high - low))


def _equalized(images: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize  # slow to import, rarely needed

    result: Tensor = equalize(images)
    return result


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
