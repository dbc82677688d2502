"""Augmentation on the device: names → functions that change a batch of images, each image in its own way.

Images are [B, C, H, W] float in [0, 1], before normalisation, and stay so. Every change is drawn first and applied
second: `draw_…` takes the random numbers from a generator on the images' device, and the function after it is exact.
There is no loop over images and no wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import NamedTuple, cast

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from trainables.errors import PluginError
from trainables.plugins import call_plugin, is_plugin, load_plugin
from trainables.settings import AugmentationName
from trainables.trivial_augment import apply_operation, draw_operation

CROP_PADDING = 2  # pixels of zeros on every side, of images up to 32×32 (reference implementation)
PADDED_PART = 1 / 16  # of the shorter side of larger images: as much as 2 of 32 pixels
CROP_SCALE, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # torchvision's of RandomResizedCrop: part of the area, w / h
ERASED_FRACTION = 0.5  # of the images; these three are torchvision's of RandomErasing
ERASED_SCALE, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)
ATTEMPTS = 10  # to draw a rectangle that lies within the image
MAX_BRIGHTNESS = 32 / 255  # the four ranges of the reference implementation's colour jitter
CONTRAST_RANGE = (0.5, 1.5)
SATURATION_RANGE = (0.5, 1.5)
MAX_HUE = 0.2  # turns


def crop_padding(images: Tensor) -> int:
    """Returns the pixels that `crop` pads: 2 up to 32×32, and in proportion to the size of larger images."""
    return max(CROP_PADDING, round(PADDED_PART * min(images.shape[2:])))


def draw_crop(images: Tensor, generator: Generator) -> Tensor:
    """Draws [B, 2] int64: the top row and left column to crop at, in an image padded by `crop_padding`."""
    return torch.randint(2 * crop_padding(images) + 1, (len(images), 2), generator=generator, device=images.device)


def crop(images: Tensor, corners: Tensor) -> Tensor:
    """Pads with zeros and cuts out an image of the old size, its top left at `corners` [B, 2] of the padded one."""
    batch, channels, height, width = (torch.arange(size, device=images.device) for size in images.shape)
    padded = pad(images, [crop_padding(images)] * 4)
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

    Pixels may leave [0, 1] on the way and are clipped once, at the end.
    """
    images = images + per_image(jitter.brightness)
    images = adjust_contrast(images, jitter.contrast_first)
    images = adjust_saturation(images, jitter.saturation)
    images = adjust_hue(images, jitter.hue)
    return adjust_contrast(images, jitter.contrast_last).clamp(0, 1)


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


class Rectangles(NamedTuple):
    """A rectangle in each image, in whole pixels, each [B]."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def draw_rectangles(
    images: Tensor, scale: tuple[float, float], ratio: tuple[float, float], generator: Generator
) -> tuple[Rectangles, Tensor]:
    """Draws rectangles of a part of the area and of a ratio of sides, and [B] bool: whether one was found.

    `scale` bounds the part; `ratio` bounds one side by the other, with a uniform logarithm. As in torchvision, ten
    are tried; without one that fits, the rectangle is the image.
    """
    count, device = len(images), images.device
    image_height, image_width = images.shape[2:]
    uniforms = torch.rand((4, count, ATTEMPTS), generator=generator, device=device)
    area = image_height * image_width * (scale[0] + (scale[1] - scale[0]) * uniforms[0])
    root = torch.exp(0.5 * (log(ratio[0]) + (log(ratio[1]) - log(ratio[0])) * uniforms[1]))
    widths, heights = torch.round(area.sqrt() * root), torch.round(area.sqrt() / root)
    fits = (widths >= 1) & (widths <= image_width) & (heights >= 1) & (heights <= image_height)
    first = fits.int().argmax(dim=1, keepdim=True)  # 0 where none does
    is_found = fits.gather(1, first).squeeze(1)
    top, left = uniforms[2, :, 0], uniforms[3, :, 0]
    height = torch.where(is_found, heights.gather(1, first).squeeze(1), image_height)
    width = torch.where(is_found, widths.gather(1, first).squeeze(1), image_width)
    # A uniform of almost 1 may be rounded up to the number of places.
    top = torch.minimum((top * (image_height - height + 1)).floor(), image_height - height)
    left = torch.minimum((left * (image_width - width + 1)).floor(), image_width - width)
    return Rectangles(*(part.long() for part in (top, left, height, width))), is_found


def resized_crop(images: Tensor, rectangles: Rectangles) -> Tensor:
    """Cuts a rectangle out of each image and enlarges it to the image's size, by bilinear interpolation."""
    rows, row_weights = _sources(rectangles.top, rectangles.height, images.shape[2])
    columns, column_weights = _sources(rectangles.left, rectangles.width, images.shape[3])
    batch, channels, height, width = images.shape
    above, below = (
        images.gather(2, index[:, None, :, None].expand(batch, channels, height, width)) for index in rows
    )
    images = torch.lerp(above, below, row_weights[:, None, :, None])
    before, after = (
        images.gather(3, index[:, None, None, :].expand(batch, channels, height, width)) for index in columns
    )
    return torch.lerp(before, after, column_weights[:, None, None, :])


def _sources(first: Tensor, length: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Returns from which two pixels each of `size` pixels comes, [B, size] each, and the weight of the second."""
    positions = (torch.arange(size, device=first.device) + 0.5) * (length[:, None] / size) - 0.5
    positions = torch.minimum(positions.clamp_min(0), length[:, None] - 1)
    lower = positions.floor()
    upper = torch.minimum(lower + 1, length[:, None] - 1)
    return ((first[:, None] + lower.long()), (first[:, None] + upper.long())), positions - lower


def draw_erasing(images: Tensor, generator: Generator) -> Rectangles:
    """Draws the rectangles to erase, of half of the images; the others get one without pixels."""
    rectangles, is_found = draw_rectangles(images, ERASED_SCALE, ERASED_RATIO, generator)
    is_erased = torch.rand(len(images), generator=generator, device=images.device) < ERASED_FRACTION
    return rectangles._replace(height=rectangles.height * (is_found & is_erased))


def erase(images: Tensor, rectangles: Rectangles) -> Tensor:
    """Zeroes a rectangle of each image (Zhong et al. 2020)."""
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[2:])
    row_in = (rows >= rectangles.top[:, None]) & (rows < (rectangles.top + rectangles.height)[:, None])  # [B, H]
    column_in = (columns >= rectangles.left[:, None]) & (columns < (rectangles.left + rectangles.width)[:, None])
    return torch.where(row_in[:, None, :, None] & column_in[:, None, None, :], 0, images)


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


def _resized_crop(images: Tensor, generator: Generator) -> Tensor:
    rectangles, _ = draw_rectangles(images, CROP_SCALE, CROP_RATIO, generator)
    images = resized_crop(images, rectangles)
    return flip(images, draw_flip(images, generator))


def _trivial_augment(images: Tensor, generator: Generator) -> Tensor:
    images = _resized_crop(images, generator)
    return apply_operation(images, draw_operation(images, generator))


def _random_erasing(images: Tensor, generator: Generator) -> Tensor:
    images = _resized_crop(images, generator)
    return erase(images, draw_erasing(images, generator))


AUGMENTATIONS: dict[AugmentationName, Callable[[Tensor, Generator], Tensor]] = {
    "none": _none,
    "crop_flip": _crop_flip,
    "cutout": _cutout,
    "reference": _reference,
    "resized_crop": _resized_crop,
    "trivial_augment": _trivial_augment,
    "random_erasing": _random_erasing,
}


def find_augmentation(name: str) -> Callable[[Tensor, Generator], Tensor]:
    """Returns an augmentation by its name, also a plug-in. Raises PluginError if it cannot be loaded."""
    if is_plugin(name):
        return cast(Callable[[Tensor, Generator], Tensor], load_plugin("augmentation", name))
    return AUGMENTATIONS[cast(AugmentationName, name)]


def try_augmentation(name: str, images: Tensor) -> None:
    """Changes images [B, C, H, W] by a plug-in. Raises PluginError, with its name, if it breaks the protocol."""
    augment = load_plugin("augmentation", name)
    changed = call_plugin("augmentation", name, lambda: augment(images.clone(), Generator().manual_seed(0)))
    if not isinstance(changed, Tensor):
        raise PluginError(f"augmentation {name} must return a tensor of images, got one {type(changed).__name__}")
    if changed.shape != images.shape:
        shapes = f"{list(images.shape)} as they came, got {list(changed.shape)}"
        raise PluginError(f"augmentation {name} must return images {shapes}")
    if changed.dtype != images.dtype:
        raise PluginError(f"augmentation {name} must return images of type float32, got {changed.dtype}")
    if not bool(((changed >= 0) & (changed <= 1)).all()):
        raise PluginError(f"augmentation {name} must return pixels in [0, 1]: clamp them")


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Moves each channel away from its own mean, or towards it: factor 0 is that mean, 1 the image."""
    return torch.lerp(images.mean(dim=(2, 3), keepdim=True), images, per_image(factors))


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Scales the saturation of HSV, at most to 1; hue and value stay. Pixels without a positive channel turn grey."""
    value, chroma = _value_and_chroma(images)
    saturation = chroma / torch.where(value > 0, value, 1)
    scaled = torch.where(value > 0, value * (saturation * per_image(factors)).clamp(0, 1), 0)
    return value - scaled * (value - images) / torch.where(chroma > 0, chroma, 1)


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue of HSV by a fraction of the colour circle, −0.5 … 0.5; saturation and value stay."""
    value, chroma = _value_and_chroma(images)
    hue = _hue(images, value, chroma) + per_image(turns)
    # HSV → RGB without cases: each channel is the value, less a ramp of the hue's distance from that channel's colour
    offsets = 5 - 2 * torch.arange(3, device=images.device).view(1, 3, 1, 1)  # 5, 3, 1 for red, green, blue
    position = (offsets + 6 * hue) % 6  # [B, 3, H, W]
    ramp = torch.minimum(position, 4 - position).clamp(0, 1)
    return value - chroma * ramp


def per_image(values: Tensor) -> Tensor:
    """Reshapes [B] to [B, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)


def _value_and_chroma(images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest channel and how far the smallest lies below it, [B, 1, H, W] each."""
    value = images.amax(dim=1, keepdim=True)
    return value, value - images.amin(dim=1, keepdim=True)


def _hue(images: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Returns the hue of HSV, [B, 1, H, W] in turns, 0 for greys."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    is_grey = chroma == 0
    divisor = torch.where(is_grey, 1, chroma)
    sextant = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    return torch.where(is_grey, 0, sextant / 6)
