"""Networks of the user's own: plug-ins `builder(num_classes, in_channels) -> nn.Module`, such as a module's class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parameter import UninitializedParameter

from trainables.errors import NetworkError, PluginError
from trainables.plugins import call_plugin, load_plugin, within_time


def build_plugin_network(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Builds the network. Raises NetworkError, with its name, if it cannot be imported or built, or is none."""
    try:
        return _build(name, num_classes, in_channels)
    except PluginError as error:
        raise NetworkError(str(error)) from error


def check_plugin_network(name: str, num_classes: int, shape: tuple[int, int, int]) -> None:
    """Tries the network as `try_network` does. Raises NetworkError if that fails or takes over `CHECK_SECONDS`."""
    try:
        within_time("network", name, lambda: try_network(name, num_classes, shape))
    except PluginError as error:
        raise NetworkError(str(error)) from error


def try_network(name: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Builds the network, and trains and evaluates it once on two images of a shape: channels, height, width.

    Returns the network. Raises PluginError, with its name, if that is impossible, its logits are not [2, K] finite
    floats, or no gradient reaches its parameters.
    """
    network = _build(name, num_classes, shape[0])
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = images.contiguous(memory_format=torch.channels_last)
    logits = call_plugin("network", name, lambda: network.train()(images))
    _check_logits(name, logits, num_classes)
    loss = cross_entropy(logits.float(), torch.tensor([0, num_classes - 1]))
    if not loss.requires_grad:
        raise PluginError(f"network {name} passes no gradient to its parameters: its output is cut off from them")
    call_plugin("network", name, loss.backward)
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        raise PluginError(f"network {name} has gradients that are not finite after one pass")
    with torch.no_grad():
        _check_logits(name, call_plugin("network", name, lambda: network.eval()(images)), num_classes)
    return network


def _build(name: str, num_classes: int, in_channels: int) -> nn.Module:
    builder = load_plugin("network", name)
    network = call_plugin("network", name, lambda: builder(num_classes, in_channels))
    if not isinstance(network, nn.Module):
        raise PluginError(f"network {name} must be or return an nn.Module, got one {type(network).__name__}")
    parameters = list(network.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise PluginError(f"network {name} has no parameters to train")
    if any(isinstance(parameter, UninitializedParameter) for parameter in parameters):
        raise PluginError(f"network {name} has lazy layers, whose sizes are not known before training: give them")
    return network


def _check_logits(name: str, logits: object, num_classes: int) -> None:
    if not isinstance(logits, Tensor):
        raise PluginError(f"network {name} must return a tensor of logits, got one {type(logits).__name__}")
    if logits.shape != (2, num_classes):
        raise PluginError(
            f"network {name} must return logits [2, {num_classes}] for 2 images and {num_classes} classes, got "
            f"{list(logits.shape)}"
        )
    if not logits.is_floating_point():
        raise PluginError(f"network {name} must return floating-point logits, got {logits.dtype}")
    if not logits.isfinite().all():
        raise PluginError(f"network {name} returned logits that are not finite")
