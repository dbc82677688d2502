"""Networks by name: each builds an image classifier, [B, C, H, W] float in [−1, 1] → logits [B, K]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.models.plugin_networks import build_plugin_network, check_plugin_network
from trainables.models.pretrained import load_weights
from trainables.models.resnet import resnet18_cifar, resnet32, small_cnn
from trainables.models.wide_resnet import resnet32_wide
from trainables.plugins import is_plugin
from trainables.settings import TIMM_PREFIX, TORCHVISION_PREFIX, OwnNetwork, TrialSettings

NETWORKS: dict[OwnNetwork, Callable[[int, int], nn.Module]] = {
    "small_cnn": small_cnn,
    "resnet32": resnet32,
    "resnet32_wide": resnet32_wide,
    "resnet18_cifar": resnet18_cifar,
}
"""Name → builder(num_classes, in_channels); weights come from torch's global generator."""


def build_network(settings: TrialSettings, num_classes: int, in_channels: int) -> nn.Module:
    """Builds the network of a trial, with the weights it starts from.

    Raises NetworkError if the network or its weights do not exist or do not fit, and MissingPackageError.
    """
    network = _build(settings, num_classes, in_channels)
    if settings.weights is not None:
        load_weights(network, settings.network, Path(settings.weights))
    return network


def check_network(
    settings: TrialSettings, num_classes: int, in_channels: int, size: tuple[int, int] | None = None
) -> None:
    """Checks before a search that trials can build their network; downloads pretrained weights. Raises as they do.

    A plug-in also has to take two images of `size`, height and width, if that is given.
    """
    name = settings.network
    if is_plugin(name) and size is not None:
        check_plugin_network(name, num_classes, (in_channels, *size))
    if name.startswith(TORCHVISION_PREFIX):
        from trainables.models.torchvision_models import check_torchvision_model

        check_torchvision_model(name, settings.pretrained)
    if name.startswith(TIMM_PREFIX):
        from trainables.models.timm_models import check_timm_model

        check_timm_model(name, settings.pretrained)
    if settings.weights is not None:
        build_network(settings, num_classes, in_channels)


def _build(settings: TrialSettings, num_classes: int, in_channels: int) -> nn.Module:
    name, pretrained = settings.network, settings.pretrained
    if name.startswith(TORCHVISION_PREFIX):
        from trainables.models.torchvision_models import build_torchvision_model  # slow to import, rarely needed

        return build_torchvision_model(name, pretrained, num_classes, in_channels)
    if name.startswith(TIMM_PREFIX):
        from trainables.models.timm_models import build_timm_model

        return build_timm_model(name, pretrained, num_classes, in_channels)
    if is_plugin(name):
        return build_plugin_network(name, num_classes, in_channels)
    return NETWORKS[cast(OwnNetwork, name)](num_classes, in_channels)


class RunningStatistics:
    """The running statistics of a network's batch-norm layers."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freezes them: within the context, batch norm in training mode uses the batch's statistics, records none."""
        tracked = [layer.track_running_stats for layer in self._layers]
        for layer in self._layers:
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer, was_tracked in zip(self._layers, tracked, strict=True):
                layer.track_running_stats = was_tracked


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the optimizer's two groups: kernels of convolutions and dense layers, which decay, and all else."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
