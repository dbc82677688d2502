"""Networks by name: each builds an image classifier, [B, C, H, W] float in [−1, 1] → logits [B, K]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.models.resnet import resnet18_cifar, resnet32, small_cnn
from trainables.models.wide_resnet import resnet32_wide
from trainables.settings import TORCHVISION_PREFIX, NetworkName, OwnNetwork, TrialSettings

NETWORKS: dict[OwnNetwork, Callable[[int, int], nn.Module]] = {
    "small_cnn": small_cnn,
    "resnet32": resnet32,
    "resnet32_wide": resnet32_wide,
    "resnet18_cifar": resnet18_cifar,
}
"""Name → builder(num_classes, in_channels); weights come from torch's global generator."""


def build_network(settings: TrialSettings, num_classes: int, in_channels: int) -> nn.Module:
    """Build the network of a trial: one of `NETWORKS`, or one of torchvision's.

    Raises:
        NetworkError: if torchvision has no such network, its weights cannot be had, or `in_channels` does not fit.
    """
    if not settings.network.startswith(TORCHVISION_PREFIX):
        return NETWORKS[cast(OwnNetwork, settings.network)](num_classes, in_channels)
    from trainables.models.torchvision_models import (
        build_backbone,  # imports torchvision, which most trials do not need
    )

    return build_backbone(settings.network, settings.pretrained, num_classes, in_channels)


def check_network(name: NetworkName, pretrained: bool) -> None:
    """Make sure, before anything is created, that trials can build a network; downloads pretrained weights.

    Raises:
        NetworkError: in one line, if torchvision has no such network, or its weights cannot be had.
    """
    if name.startswith(TORCHVISION_PREFIX):
        from trainables.models.torchvision_models import check_backbone

        check_backbone(name, pretrained)


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
