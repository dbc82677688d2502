"""Networks by name: each builds an image classifier, [B, C, H, W] float in [−1, 1] → logits [B, K]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.settings import NetworkName


def small_cnn(num_classes: int, in_channels: int) -> nn.Module:
    """Four 3×3 convolutions with batch norm, two of stride 2; 0.14 M parameters, for images from 8×8 pixels on."""
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


NETWORKS: dict[NetworkName, Callable[[int, int], nn.Module]] = {
    "small_cnn": small_cnn,
}
"""Name → builder(num_classes, in_channels); weights come from torch's global generator."""


class RunningStatistics:
    """The batch-norm layers of a network, to hold their running statistics still."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the context batch norm in training mode uses the batch's statistics and records none."""
        tracked = [layer.track_running_stats for layer in self._layers]
        for layer in self._layers:
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer, was_tracked in zip(self._layers, tracked, strict=True):
                layer.track_running_stats = was_tracked


def kernels_and_rest(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What is trained, in two parts: kernels of convolutions and dense layers, which L2 shrinks, and all else."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.dim() > 1]
    rest = [parameter for parameter in trained if parameter.dim() <= 1]
    return kernels, rest
