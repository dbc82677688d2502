"""Plug-ins of the tests: good ones, and every kind of bad one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

GOOD = "tests.support.own_plugins:TinyNet"
# A data set, a mentor and an augmentation, for the modules that tests write as users do.
PARTS_SOURCE = """

def load(split, data_dir):
    labels = np.arange(240) % 3
    images = np.zeros((240, 8, 8), np.uint8)
    images[labels == 1, ::2], images[labels == 2, :, ::2] = 250, 250
    return {"images": images, "labels": labels} if split == "train" else None


def half(losses, differences, percent):
    return torch.full_like(losses, 0.5)


def darker(images, generator):
    return images * torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
"""


class TinyNet(nn.Module):
    """A network as users write it."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return logits


class _Changed(TinyNet):
    """Changes what comes out."""

    def __init__(self, num_classes: int, in_channels: int, change: Callable[[Tensor], object]) -> None:
        super().__init__(num_classes, in_channels)
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(super().forward(images))  # type: ignore[return-value]


def raising(num_classes: int, in_channels: int) -> nn.Module:
    raise KeyError("no such layer")


def raising_later(num_classes: int, in_channels: int) -> nn.Module:
    return RaisesLater(num_classes, in_channels)


class RaisesLater(TinyNet):
    """Passes the check, and raises in training."""

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 2:
            raise IndexError("too many birds")
        return super().forward(images)


def no_network(num_classes: int, in_channels: int) -> object:
    return "a network"


def wrong_shape(num_classes: int, in_channels: int) -> nn.Module:
    return TinyNet(num_classes + 1, in_channels)


def wrong_kind(num_classes: int, in_channels: int) -> nn.Module:
    return _Changed(num_classes, in_channels, lambda logits: logits.long())


def not_a_number(num_classes: int, in_channels: int) -> nn.Module:
    return _Changed(num_classes, in_channels, lambda logits: logits * float("nan"))


def no_tensor(num_classes: int, in_channels: int) -> nn.Module:
    return _Changed(num_classes, in_channels, lambda logits: {"logits": logits})


def cut_off(num_classes: int, in_channels: int) -> nn.Module:
    return _Changed(num_classes, in_channels, lambda logits: logits.detach())


def without_parameters(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Flatten()


def lazy(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


def hanging(num_classes: int, in_channels: int) -> nn.Module:
    time.sleep(5)
    return TinyNet(num_classes, in_channels)


ONE_FOR_ALL = TinyNet(10, 3)


def shared(num_classes: int, in_channels: int) -> nn.Module:
    return ONE_FOR_ALL


def other_weights(num_classes: int, in_channels: int) -> nn.Module:
    network = TinyNet(num_classes, in_channels)
    torch.nn.init.constant_(network.head.bias, time.perf_counter())
    return network


A_NUMBER = 3


def half(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    return torch.full_like(losses, 0.5)


def mentor_of_one(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    return torch.ones(1)


def mentor_of_bools(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    return differences < 0


def mentor_of_nan(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    return losses * float("nan")


def mentor_that_raises(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    raise KeyError("mentor")


def darker(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)


def smaller(images: Tensor, generator: torch.Generator) -> Tensor:
    return images[:, :, 1:]


def brighter(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + 1


def doubled(images: Tensor, generator: torch.Generator) -> Tensor:
    return images.double()


def from_elsewhere(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * torch.rand(1)


def stripes(split: str, data_dir: Path | None) -> dict[str, object] | None:
    """Images of two classes."""
    if split == "test":
        return None
    labels = np.arange(40) % 2
    images = np.zeros((40, 6, 6), np.uint8)
    images[labels == 1, ::2] = 200
    return {"images": images, "labels": labels, "class_names": ["plain", "striped"]}


def no_labels(split: str, data_dir: Path | None) -> dict[str, object]:
    return {"images": np.zeros((4, 6, 6), np.uint8)}


def floats(split: str, data_dir: Path | None) -> dict[str, object]:
    return {"images": np.zeros((4, 6, 6)), "labels": np.arange(4) % 2}


def too_few(split: str, data_dir: Path | None) -> dict[str, object]:
    return {"images": np.zeros((3, 6, 6), np.uint8), "labels": np.arange(4) % 2}


def unreadable(split: str, data_dir: Path | None) -> dict[str, object]:
    raise FileNotFoundError(2, "No such file or directory", "birds.parquet")


def flat(split: str, data_dir: Path | None) -> dict[str, object]:
    return {"images": np.zeros((4, 36), np.uint8), "labels": np.arange(4) % 2}


def labels_of_nan(split: str, data_dir: Path | None) -> dict[str, object]:
    return {"images": np.zeros((4, 6, 6), np.uint8), "labels": np.full(4, np.nan)}


def slow_stripes(split: str, data_dir: Path | None) -> dict[str, object] | None:
    time.sleep(0.5)
    return stripes(split, data_dir)


def metric_that_raises(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    raise KeyError("metric")


def metric_of_many(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> object:
    return probabilities[:, 0]


def metric_of_text(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> object:
    return "0.5"


def metric_of_nan(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    return float("nan")


def metric_that_hangs(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    time.sleep(5)
    return 0.5


def mentor_that_hangs(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    time.sleep(5)
    return losses


def augmentation_that_raises(images: Tensor, generator: torch.Generator) -> Tensor:
    raise KeyError("augmentation")


def augmentation_of_nan(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * float("nan")


def augmentation_that_hangs(images: Tensor, generator: torch.Generator) -> Tensor:
    time.sleep(5)
    return images


TRIED = 32  # more images than any plug-in is tried with before a search, as a batch in training has


class ShapedOtherwiseLater(TinyNet):
    """Passes the check, and returns another shape in training."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, : None if len(images) <= TRIED else 3]


class TurnsToNan(TinyNet):
    """Passes the check, and returns NaN in training."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1.0 if len(images) <= TRIED else float("nan"))


def mentor_that_raises_later(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    if len(losses) > TRIED:
        raise KeyError("late")
    return torch.ones_like(losses)


def mentor_of_one_later(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    return torch.ones(len(losses) if len(losses) <= TRIED else 7)


def mentor_of_nan_later(losses: Tensor, differences: Tensor, percent: Tensor | int) -> Tensor:
    return torch.full_like(losses, 1.0 if len(losses) <= TRIED else float("nan"))


def augmentation_that_raises_later(images: Tensor, generator: torch.Generator) -> Tensor:
    if len(images) > TRIED:
        raise KeyError("late")
    return images


def smaller_batch_later(images: Tensor, generator: torch.Generator) -> Tensor:
    return images if len(images) <= TRIED else images[:TRIED]


def augmentation_of_nan_later(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * (1.0 if len(images) <= TRIED else float("nan"))
