"""Networks for small images: thin ResNet-32 and ResNet-18 with a small stem (He et al. 2016), and a small CNN."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import pad, relu_

Shortcut = Callable[[int, int, int], nn.Module]  # in_channels, out_channels, stride → module


def resnet32(num_classes: int, in_channels: int) -> nn.Module:
    """Three stages of 5 blocks at 16, 32 and 64 channels, shortcuts without weights; 0.46 M parameters."""
    return _resnet(num_classes, in_channels, stages=(16, 32, 64), blocks=5, shortcut=_Subsampling)


def resnet18_cifar(num_classes: int, in_channels: int) -> nn.Module:
    """Four stages of 2 blocks at 64 to 512 channels, a 3×3 stem and no max-pooling; 11.2 M parameters."""
    return _resnet(num_classes, in_channels, stages=(64, 128, 256, 512), blocks=2, shortcut=_projection)


def _resnet(
    num_classes: int, in_channels: int, stages: tuple[int, ...], blocks: int, shortcut: Shortcut
) -> nn.Module:
    """A stem, stages of residual blocks, each but the first at half the resolution, and a dense head."""
    layers: list[nn.Module] = [_convolution(in_channels, stages[0]), nn.BatchNorm2d(stages[0]), nn.ReLU(inplace=True)]
    channels = stages[0]
    for stage, out_channels in enumerate(stages):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_Block(channels, out_channels, stride, shortcut))
            channels = out_channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


class _Block(nn.Module):
    """Two 3×3 convolutions with batch norm, and the shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            _convolution(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
        )
        keeps_shape = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if keeps_shape else shortcut(in_channels, out_channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] → [B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]."""
        residual: Tensor = self.residual(features)
        residual += self.shortcut(features)
        return relu_(residual)


class _Subsampling(nn.Module):
    """Every `stride`-th pixel, with channels of zeros in front and behind: option A of He et al."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self._stride = stride
        self._front = (out_channels - in_channels) // 2
        self._behind = out_channels - in_channels - self._front

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] → [B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]."""
        return pad(features[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, self._front, self._behind))


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A 1×1 convolution with batch norm: option B of He et al."""
    return nn.Sequential(_convolution(in_channels, out_channels, stride, side=1), nn.BatchNorm2d(out_channels))


def _convolution(in_channels: int, out_channels: int, stride: int = 1, side: int = 3) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, out_channels, side, stride=stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def small_cnn(num_classes: int, in_channels: int) -> nn.Module:
    """Four 3×3 convolutions with batch norm, two of stride 2; 0.13 M parameters, for images from 8×8 pixels on."""
    return nn.Sequential(
        *_conv_block(in_channels, 32),
        *_conv_block(32, 64, stride=2),
        *_conv_block(64, 64),
        *_conv_block(64, 128, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def _conv_block(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
