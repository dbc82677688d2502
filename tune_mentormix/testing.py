"""Contract tests for plug-ins: each function raises `PluginError`, in one line, if a plug-in breaks its protocol.

>>> from tune_mentormix.testing import check_network
>>> check_network("birds.networks:BirdNet", num_classes=200)  # doctest: +SKIP

docs/plug-ins.md has the protocols. A plug-in is given by its name, or as the class or the function itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from trainables.errors import PluginError
from trainables.plugins import allow_plugins, call_plugin, plugin_name

__all__ = ["PluginError", "check_augmentation", "check_dataset", "check_mentor", "check_metric", "check_network"]

PlugIn = str | type | Callable[..., Any]


def check_network(
    network: PlugIn, *, num_classes: int = 10, in_channels: int = 3, size: tuple[int, int] = (32, 32)
) -> None:
    """Checks that a network can be built, trained, averaged, saved and loaded.

    Args:
        network: `builder(num_classes, in_channels) -> nn.Module`.
        num_classes: K.
        in_channels: of the images, 1 or 3.
        size: height and width of the images.
    """
    import torch

    from trainables.models.plugin_networks import try_network

    name = _allowed(network)
    shape = (in_channels, *size)

    def build() -> torch.nn.Module:
        torch.manual_seed(0)
        return try_network(name, num_classes, shape).eval()

    torch_state = torch.get_rng_state()
    try:
        first, second = build(), build()
        with torch.no_grad():
            for count in (1, 5):
                images = torch.rand(count, *shape) * 2 - 1
                logits = call_plugin("network", name, partial(first, images))
                if logits.shape != (count, num_classes):
                    raise PluginError(
                        f"network {name} must return logits [{count}, {num_classes}], got {list(logits.shape)}"
                    )
            if first is second or _shares_weights(first, second):
                raise PluginError(f"network {name} must be a new network at each call, with weights of its own")
            if not _equal(first.state_dict(), second.state_dict()):
                raise PluginError(f"network {name} has other weights for the same seed: draw them with torch alone")
            for parameter in second.parameters():
                parameter.add_(1)
            call_plugin("network", name, lambda: second.load_state_dict(first.state_dict()))
            averaged = torch.func.functional_call(second, dict(first.named_parameters()), (images,))
            if not (torch.equal(second(images), logits) and torch.equal(averaged, logits)):
                raise PluginError(f"network {name} computes something else after its weights are saved and loaded")
    finally:
        torch.set_rng_state(torch_state)


def check_metric(metric: PlugIn, *, num_classes: int = 10) -> None:
    """Checks that a metric returns a finite number, the same for the same arguments, which it leaves as they are.

    Args:
        metric: `metric(labels, probabilities) -> float`, higher is better.
        num_classes: K.
    """
    import numpy as np

    from trainables.metrics import own_metric

    name = _allowed(metric)
    labels = np.arange(2 * num_classes) % num_classes
    generator = np.random.default_rng(0)
    for given in (labels, np.zeros_like(labels)):  # all classes, and one alone
        probabilities = generator.dirichlet(np.ones(num_classes), len(given)).astype(np.float32)
        before = given.copy(), probabilities.copy()
        values = [own_metric(name, given, probabilities) for _ in range(2)]
        if values[0] != values[1]:
            raise PluginError(f"metric {name} returned {values[0]} and then {values[1]} for the same arguments")
        if not (np.array_equal(given, before[0]) and np.array_equal(probabilities, before[1])):
            raise PluginError(f"metric {name} changes its arguments")


def check_augmentation(augmentation: PlugIn, *, in_channels: int = 3, size: tuple[int, int] = (32, 32)) -> None:
    """Checks that an augmentation returns images like those it gets, the same ones for the same random generator.

    Args:
        augmentation: `augment(images, generator) -> images`, [B, C, H, W] float32 in [0, 1].
        in_channels: of the images, 1 or 3.
        size: height and width of the images.
    """
    import torch

    from trainables.augment import find_augmentation, try_augmentation

    name = _allowed(augmentation)
    for count in (1, 8):
        images = torch.rand(count, in_channels, *size, generator=torch.Generator().manual_seed(count))
        try_augmentation(name, images)
        before = images.clone()
        first, second = (find_augmentation(name)(images, torch.Generator().manual_seed(7)) for _ in range(2))
        if not torch.equal(images, before):
            raise PluginError(f"augmentation {name} changes its arguments: return new images")
        if not torch.equal(first, second):
            raise PluginError(f"augmentation {name} draws random numbers from elsewhere than its generator")


def check_mentor(mentor: PlugIn) -> None:
    """Checks that a mentor returns a weight in [0, 1] for each loss, the same for the same arguments.

    Args:
        mentor: `mentor(losses, differences, percent) -> weights`, [B] float32 each.
    """
    import torch

    from trainables.mentors import find_mentor, try_mentor

    name = _allowed(mentor)
    try_mentor(name)
    losses = torch.rand(16, generator=torch.Generator().manual_seed(0)) * 5
    before = losses.clone()
    first, second = (find_mentor(name)(losses, losses - 2, torch.tensor(30)) for _ in range(2))
    if not torch.equal(losses, before):
        raise PluginError(f"mentor {name} changes its arguments")
    if not torch.equal(first, second):
        raise PluginError(f"mentor {name} returns other weights for the same arguments")


def check_dataset(dataset: PlugIn, *, data_dir: str | Path | None = None) -> None:
    """Checks that a dataset can be read, with test images or without, and is the same each time.

    Args:
        dataset: `load(split, data_dir) -> arrays`.
        data_dir: what it is called with.
    """
    from trainables.data import load_dataset, load_test_split
    from trainables.errors import DatasetError
    from trainables.settings import DataSettings

    name = _allowed(dataset)
    settings = DataSettings.model_validate({"dataset": name, "data_dir": data_dir})
    try:
        if load_dataset(settings).fingerprint != load_dataset(settings).fingerprint:
            raise PluginError(f"dataset {name} returns other images or labels each time")
        load_test_split(settings)
    except DatasetError as error:
        if not str(error).endswith("has no test images"):
            raise PluginError(str(error)) from error


def _allowed(plug_in: PlugIn) -> str:
    name = plugin_name(plug_in)
    allow_plugins([name])
    return name


def _shares_weights(first: Any, second: Any) -> bool:
    own = {parameter.data_ptr() for parameter in first.parameters()}
    return any(parameter.data_ptr() in own for parameter in second.parameters())


def _equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(bool((first[key] == second[key]).all()) for key in first)
