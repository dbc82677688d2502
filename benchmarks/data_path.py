"""Measures the images a second that reach training: augmentation on the device against a DataLoader's workers.

Ours: uint8 images on the device, gathered, augmented and normalised a batch at a time, as a trial does it.
The others: torchvision's transforms of one PIL image at a time, in a DataLoader with 0, 1 and 2 workers.
Both give [128, 3, 32, 32] float32 batches on the device. The images are random: no time depends on what they show.
This process has one thread of PyTorch's, as a trial with one CPU has; the workers come on top of it.

    python benchmarks/data_path.py [--json FILE] [--rounds 15] [--images 5120] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measurement import alternate, median_of_ratios, write_result
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainables.augment import AUGMENTATIONS, CONTRAST_RANGE, CROP_PADDING, MAX_BRIGHTNESS, MAX_HUE, SATURATION_RANGE
from trainables.settings import AugmentationName
from trainables.training import normalize, to_float

BATCH_SIZE = 128
OURS = "ours"
LOADERS = {f"loader_{workers}_workers": workers for workers in (0, 1, 2)}

Batches = Iterator[tuple[Tensor, Tensor]]  # images [B, 3, 32, 32] float32 in [−1, 1], labels [B]

_CROP_FLIP = [transforms.RandomCrop(32, padding=CROP_PADDING), transforms.RandomHorizontalFlip()]
_COLOUR_JITTER = transforms.ColorJitter(
    brightness=(1 - MAX_BRIGHTNESS, 1 + MAX_BRIGHTNESS),  # multiplied, not added: the same work
    contrast=CONTRAST_RANGE,
    saturation=SATURATION_RANGE,
    hue=MAX_HUE,
)
_TO_NORMALISED = [transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))]
TRANSFORMS: dict[AugmentationName, transforms.Compose] = {
    "none": transforms.Compose(_TO_NORMALISED),
    "crop_flip": transforms.Compose([*_CROP_FLIP, *_TO_NORMALISED]),
    "reference": transforms.Compose([*_CROP_FLIP, _COLOUR_JITTER, *_TO_NORMALISED]),
}


class TransformedImages(Dataset[tuple[Tensor, int]]):
    """Images in memory, made PIL images and transformed one at a time, as torchvision's CIFAR10 does."""

    def __init__(self, images: NDArray[np.uint8], transform: transforms.Compose) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), 0


def batches_on_the_device(
    images: Tensor, labels: Tensor, augmentation: AugmentationName, generator: torch.Generator
) -> Batches:
    """One epoch as `trainables.training` has it."""
    order = torch.randperm(len(images), generator=generator, device=images.device)
    for index in torch.split(order, BATCH_SIZE):
        pixels = to_float(images.index_select(0, index))
        yield normalize(AUGMENTATIONS[augmentation](pixels, generator)), labels.index_select(0, index)


def batches_of_a_loader(loader: DataLoader[tuple[Tensor, int]], device: torch.device) -> Batches:
    """One epoch of a DataLoader, brought to the device."""
    for images, labels in loader:
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def images_per_second(epoch: Callable[[], Batches], device: torch.device) -> float:
    """Run through one epoch, doing nothing with it, until the device is done."""
    started = time.perf_counter()
    count = sum(len(labels) for _, labels in epoch())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - started)


def contestants_for(
    augmentation: AugmentationName, pixels: NDArray[np.uint8], device: torch.device
) -> dict[str, Callable[[], float]]:
    """Name → a function that runs one epoch and returns images per second."""
    images = torch.from_numpy(pixels).to(device)
    labels = torch.zeros(len(pixels), dtype=torch.int64, device=device)
    generator = torch.Generator(device).manual_seed(0)
    epochs: dict[str, Callable[[], Batches]] = {
        OURS: partial(batches_on_the_device, images, labels, augmentation, generator)
    }
    for name, workers in LOADERS.items():
        loader = DataLoader(
            TransformedImages(pixels, TRANSFORMS[augmentation]),
            BATCH_SIZE,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        epochs[name] = partial(batches_of_a_loader, loader, device)
    return {name: partial(images_per_second, epoch, device) for name, epoch in epochs.items()}


def print_table(rows: list[dict[str, Any]], ratios: dict[str, float], rounds: int, device: torch.device) -> None:
    """Images per second of every contestant, and how ours compares with the fastest of the others."""
    print(f"images per second, median of {rounds}, {device}")
    print(f"{'augmentation':14}" + "".join(f"{name:>18}" for name in (OURS, *LOADERS)) + f"{'ours / fastest':>18}")
    for row in rows:
        cells = "".join(f"{row[name]:18,.0f}" for name in (OURS, *LOADERS))
        print(f"{row['augmentation']:14}{cells}{ratios[ratio_name(row['augmentation'])]:18.1f}")


def ratio_name(augmentation: str) -> str:
    """The key of one augmentation's ratio."""
    return f"ours_over_fastest_loader/{augmentation}"


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=40 * BATCH_SIZE)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    pixels = np.random.default_rng(0).integers(0, 256, size=(arguments.images, 32, 32, 3), dtype=np.uint8)

    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for augmentation in TRANSFORMS:
        figures = alternate(contestants_for(augmentation, pixels, device), arguments.rounds)
        medians = {name: median(values) for name, values in figures.items()}
        rows.append({"augmentation": augmentation, **medians})
        fastest_loader = max(LOADERS, key=medians.__getitem__)
        ratios[ratio_name(augmentation)] = median_of_ratios(figures[OURS], figures[fastest_loader])

    print_table(rows, ratios, arguments.rounds, device)
    if arguments.json is not None:
        write_result(arguments.json, "data_path", device, arguments.rounds, rows, ratios)


if __name__ == "__main__":
    main()
