"""Augmentation on the device: names → functions that change a batch of images, each image in its own way.

Images are [B, C, H, W] float in [0, 1], before normalisation, and stay so. Every change is drawn first and applied
second: `draw_…` takes the random numbers from a generator on the images' device, and the function after it is exact.
There is no loop over images and no wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from trainables.settings import AugmentationName

CROP_PADDING = 2  # pixels of zeros on every side (reference implementation)
MAX_BRIGHTNESS = 32 / 255  # the four ranges of the reference implementation's colour jitter
CONTRAST_RANGE = (0.5, 1.5)
SATURATION_RANGE = (0.5, 1.5)
MAX_HUE = 0.2  # turns


def draw_crop(images: Tensor, generator: Generator) -> Tensor:
    """Draws [B, 2] int64: the top row and left column to crop at, in an image padded by `CROP_PADDING`."""
    return torch.randint(2 * CROP_PADDING + 1, (len(images), 2), generator=generator, device=images.device)


def crop(images: Tensor, corners: Tensor) -> Tensor:
    """Pads with zeros and cuts out an image of the old size, its top left at `corners` [B, 2] of the padded one."""
    batch, channels, height, width = (torch.arange(size, device=images.device) for size in images.shape)
    padded = pad(images, [CROP_PADDING] * 4)
    rows = corners[:, 0, None] + height  # [B, H]
    columns = corners[:, 1, None] + width  # [B, W]
    return padded[
        batch[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]


def draw_flip(images: Tensor, generator: Generator) -> Tensor:
    """Draws [B] bool: which images to mirror, half of them."""
    return torch.rand(len(images), generator=generator, device=images.device) < 0.5


def flip(images: Tensor, is_flipped: Tensor) -> Tensor:
    """Mirrors the images where `is_flipped` [B], left to right."""
    return torch.where(per_image(is_flipped), images.flip(-1), images)


class ColourJitter(NamedTuple):
    """Factors of one draw of colour jitter, each [B]; for contrast, one of the two is 1, which changes nothing."""

    brightness: Tensor  # added
    contrast_first: Tensor
    saturation: Tensor
    hue: Tensor  # turns
    contrast_last: Tensor


def draw_colour_jitter(images: Tensor, generator: Generator) -> ColourJitter:
    """Draws brightness ±32/255, contrast and saturation 0.5 … 1.5, hue ±0.2; contrast first or last, as often."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(images), generator=generator, device=images.device)

    contrast = uniform(*CONTRAST_RANGE)
    is_first = draw_flip(images, generator)
    return ColourJitter(
        brightness=uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS),
        contrast_first=torch.where(is_first, contrast, 1),
        saturation=uniform(*SATURATION_RANGE),
        hue=uniform(-MAX_HUE, MAX_HUE),
        contrast_last=torch.where(is_first, 1, contrast),
    )


def colour_jitter(images: Tensor, jitter: ColourJitter) -> Tensor:
    """Changes brightness, saturation and hue, and contrast before or after the two: the reference's two orders.

    Saturation and contrast are torchvision's blends with grey, clamped after each. The reference scales the S of HSV,
    blends with the mean of each channel, and clamps once at the end (TensorFlow's definitions).
    """
    images = adjust_brightness(images, jitter.brightness)
    images = adjust_contrast(images, jitter.contrast_first)
    images = adjust_saturation(images, jitter.saturation)
    images = adjust_hue(images, jitter.hue)
    return adjust_contrast(images, jitter.contrast_last)


def draw_cutout(images: Tensor, generator: Generator) -> Tensor:
    """Draws [B, 2] int64: row and column of the middle of the hole, any pixel as likely."""
    rows, columns = (
        torch.randint(size, (len(images),), generator=generator, device=images.device) for size in images.shape[2:]
    )
    return torch.stack([rows, columns], dim=1)


def cutout(images: Tensor, middles: Tensor) -> Tensor:
    """Zeroes a square of half the image's height around `middles` [B, 2]; smaller at the border (DeVries 2017)."""
    _, _, height, width = images.shape
    side = height // 2
    first = middles - side // 2  # [B, 2]
    rows = torch.arange(height, device=images.device) - first[:, 0, None]  # [B, H], 0 … side − 1 in the hole
    columns = torch.arange(width, device=images.device) - first[:, 1, None]  # [B, W]
    row_in_hole = (rows >= 0) & (rows < side)
    column_in_hole = (columns >= 0) & (columns < side)
    in_hole = row_in_hole[:, None, :, None] & column_in_hole[:, None, None, :]
    return torch.where(in_hole, 0, images)


def _none(images: Tensor, generator: Generator) -> Tensor:
    return images


def _crop_flip(images: Tensor, generator: Generator) -> Tensor:
    images = crop(images, draw_crop(images, generator))
    return flip(images, draw_flip(images, generator))


def _cutout(images: Tensor, generator: Generator) -> Tensor:
    images = _crop_flip(images, generator)
    return cutout(images, draw_cutout(images, generator))


def _reference(images: Tensor, generator: Generator) -> Tensor:
    """Jiang et al. 2020; colour jitter is for images that have colours."""
    images = _crop_flip(images, generator)
    if images.shape[1] == 1:
        return images
    return colour_jitter(images, draw_colour_jitter(images, generator))


AUGMENTATIONS: dict[AugmentationName, Callable[[Tensor, Generator], Tensor]] = {
    "none": _none,
    "crop_flip": _crop_flip,
    "cutout": _cutout,
    "reference": _reference,
}


def adjust_brightness(images: Tensor, deltas: Tensor) -> Tensor:
    """Adds `deltas`; torchvision multiplies instead, so this one is defined by the reference implementation."""
    return (images + per_image(deltas)).clamp(0, 1)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the image's mean grey: factor 0 is that grey, 1 the image."""
    mean_grey = grey(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean_grey, images, per_image(factors)).clamp(0, 1)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the grey image: factor 0 is grey, 1 the image."""
    return torch.lerp(grey(images), images, per_image(factors)).clamp(0, 1)


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue by a fraction of the colour circle, −0.5 … 0.5; saturation and value stay."""
    hue, saturation, value = _hue_saturation_value(images)
    hue = hue + per_image(turns)
    # HSV → RGB without cases: each channel is the value, less a ramp of the hue's distance from that channel's colour
    offsets = 5 - 2 * torch.arange(3, device=images.device).view(1, 3, 1, 1)  # 5, 3, 1 for red, green, blue
    position = (offsets + 6 * hue) % 6  # [B, 3, H, W]
    ramp = torch.minimum(position, 4 - position).clamp(0, 1)
    return value - value * saturation * ramp


def grey(images: Tensor) -> Tensor:
    """Returns the luminance [B, 1, H, W] with ITU-R 601-2 weights, as torchvision and Pillow have them."""
    red, green, blue = images.unbind(dim=1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def per_image(values: Tensor) -> Tensor:
    """Reshapes [B] to [B, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)


def _hue_saturation_value(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Converts RGB to HSV, each [B, 1, H, W]; hue in turns, 0 for greys."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    value, minimum = images.amax(dim=1, keepdim=True), images.amin(dim=1, keepdim=True)
    chroma = value - minimum
    is_grey = chroma == 0
    saturation = chroma / torch.where(is_grey, 1, value)
    divisor = torch.where(is_grey, 1, chroma)
    sextant = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    return torch.where(is_grey, 0, sextant / 6), saturation, value
