"""The smallest network: for tests, for digits, and for a first look on a laptop."""

from __future__ import annotations

from torch import nn


def small_cnn(num_classes: int, in_channels: int) -> nn.Module:
    """Four 3×3 convolutions with batch norm, two of stride 2; 0.13 M parameters, for images from 8×8 pixels on."""
    return nn.Sequential(
        *_convolution(in_channels, 32),
        *_convolution(32, 64, stride=2),
        *_convolution(64, 64),
        *_convolution(64, 128, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
