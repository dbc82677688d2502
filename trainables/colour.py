"""Colour operations on batches, every image with a factor of its own; each as torchvision defines it for one image.

Images are [B, 3, H, W] float in [0, 1], factors [B]; results are clamped to [0, 1]. Nothing waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def adjust_brightness(images: Tensor, deltas: Tensor) -> Tensor:
    """Add `deltas`; torchvision multiplies instead, so this one is defined by the reference implementation."""
    return (images + per_image(deltas)).clamp(0, 1)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the image's mean grey: factor 0 is that grey, 1 the image."""
    mean_grey = grey(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean_grey, images, per_image(factors)).clamp(0, 1)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the grey image: factor 0 is grey, 1 the image."""
    return torch.lerp(grey(images), images, per_image(factors)).clamp(0, 1)


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue by a share of the colour circle, −0.5 … 0.5; saturation and value stay."""
    hue, saturation, value = _hue_saturation_value(images)
    hue = hue + per_image(turns)
    # HSV → RGB without cases: each channel is the value, less a ramp of the hue's distance from that channel's colour
    offsets = 5 - 2 * torch.arange(3, device=images.device).view(1, 3, 1, 1)  # 5, 3, 1 for red, green, blue
    position = (offsets + 6 * hue) % 6  # [B, 3, H, W]
    ramp = torch.minimum(position, 4 - position).clamp(0, 1)
    return value - value * saturation * ramp


def grey(images: Tensor) -> Tensor:
    """Luminance [B, 1, H, W] with ITU-R 601-2 weights, as torchvision and Pillow have them."""
    red, green, blue = images.unbind(dim=1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def per_image(values: Tensor) -> Tensor:
    """[B] → [B, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)


def _hue_saturation_value(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, 1, H, W] each; hue in turns, 0 for greys."""
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
