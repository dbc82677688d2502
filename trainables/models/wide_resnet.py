"""The network that the reference implementation calls ResNet-32, layer by layer as it is there.

29.4 M parameters, 4.3 billion multiplications an image of 32×32 pixels: a wide network with activations before
convolutions, not the thin ResNet-32 of the literature (`trainables.models.resnet`).
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

STEM_CHANNELS = 64
STAGE_CHANNELS = (128, 256, 512)
BLOCKS_PER_STAGE = 5
LEAKINESS = 0.1  # slope of the activations below 0
NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.1  # weight of a new batch in the running statistics: the reference's decay is 0.9


def resnet32_wide(num_classes: int, in_channels: int) -> nn.Module:
    """A 3×3 stem, three stages of five pre-activation blocks at strides 1, 2 and 2, and a dense head."""
    blocks: list[nn.Module] = []
    channels = STEM_CHANNELS
    for stage, out_channels in enumerate(STAGE_CHANNELS):
        for block in range(BLOCKS_PER_STAGE):
            stride = 2 if stage > 0 and block == 0 else 1
            blocks.append(_Block(channels, out_channels, stride, is_first=not blocks))
            channels = out_channels
    return nn.Sequential(
        _convolution(in_channels, STEM_CHANNELS),
        *blocks,
        _norm(channels),
        nn.LeakyReLU(LEAKINESS, inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        _dense(channels, num_classes),
    )


class _Block(nn.Module):
    """Two activated 3×3 convolutions, and a shortcut that has no weights.

    The first block of the network activates before it normalises, and its shortcut begins after both;
    in all others the order is the usual one, and the shortcut begins before.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, is_first: bool) -> None:
        super().__init__()
        self._stride = stride
        self._is_first = is_first
        self._padding_channels = (out_channels - in_channels) // 2
        activation = nn.LeakyReLU(LEAKINESS, inplace=True)
        norm = _norm(in_channels)
        self.entry = nn.Sequential(activation, norm) if is_first else nn.Sequential(norm, activation)
        self.residual = nn.Sequential(
            _convolution(in_channels, out_channels, stride),
            _norm(out_channels),
            nn.LeakyReLU(LEAKINESS, inplace=True),
            _convolution(out_channels, out_channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] → [B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]."""
        activated = self.entry(features)
        shortcut = activated if self._is_first else features
        if self._stride > 1:
            shortcut = avg_pool2d(shortcut, self._stride, ceil_mode=True)
        if self._padding_channels:
            shortcut = pad(shortcut, (0, 0, 0, 0, self._padding_channels, self._padding_channels))
        residual: Tensor = self.residual(activated)
        return residual + shortcut


class _StridedConvolution(nn.Conv2d):
    """A 3×3 convolution of stride 2 that pads bottom and right only, where the side is even, as TensorFlow does."""

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] → [B, out_channels, ⌈H / 2⌉, ⌈W / 2⌉]."""
        height, width = features.shape[-2:]
        return super().forward(pad(features, (width % 2, 1, height % 2, 1)))


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    if stride == 1:
        convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    else:
        convolution = _StridedConvolution(in_channels, out_channels, 3, stride=stride, bias=False)
    nn.init.normal_(convolution.weight, std=math.sqrt(2 / (9 * out_channels)))
    return convolution


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)


def _dense(in_features: int, out_features: int) -> nn.Linear:
    dense = nn.Linear(in_features, out_features)
    limit = math.sqrt(3 / in_features)
    nn.init.uniform_(dense.weight, -limit, limit)
    nn.init.zeros_(dense.bias)
    return dense
