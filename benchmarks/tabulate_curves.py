"""Train a grid of configurations in full, with several seeds each: the curves that `search_efficiency` searches in.

Real trials (`Trainer`, `small_cnn`, a batch of 64): on the digits with symmetric noise of 40 and 60 % and with pair
flips of 40 % (27 epochs, 863 images to train on, 575 with noisy labels to validate on), and on 3,000 images of
CIFAR-10 at 16×16 pixels with the labels `worse` of CIFAR-10N (20 epochs, 1,800 and 1,200 images).

A table holds, for each configuration and seed, the count of right answers on the noisy validation labels after every
epoch and that on clean test labels at the end. It is written after every configuration, in an order that fills the
grid evenly, and taken up again where it ended. A problem on the digits takes half an hour of one core, CIFAR-10 an
hour and a half.

    python benchmarks/tabulate_curves.py [--only NAMES] [--folder benchmarks/curves] [--cifar DIR]

`--cifar` is a folder with `train/`, `test/` (class folders) and `cifar10n.npz`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data import load_dataset, load_test_split
from trainables.device import DeviceDataset, images_on
from trainables.errors import TrainingDiverged
from trainables.settings import DataSettings, TrialSettings
from trainables.training import Trainer
from tune_mentormix.config.controls import ControlName, control_configs

FOLDER = Path(__file__).parent / "curves"
SEEDS = (1, 2, 3)
BATCH_SIZE = 64
VALIDATION_FRACTION = 0.4
BASELINES: tuple[ControlName, ...] = ("mixup", "plain")
TEST_IMAGES = 1_000  # at most, the first of the shuffled ones
Grid = dict[str, list[Any]]
DIGITS_GRID: Grid = {  # ordered
    "mixup_alpha": [0.5, 2.0, 8.0, 32.0],
    "loss_p_percentile": [0.1, 0.35, 0.6, 0.75, 0.9],
    "burn_in": [0.0, 7.5, 15.0],
    "second_reweight": [False, True],
}
CIFAR_GRID: Grid = DIGITS_GRID | {"loss_p_percentile": [0.1, 0.4, 0.65, 0.9], "burn_in": [0.0, 15.0]}


@dataclass(frozen=True)
class Curves:
    """A problem to tabulate: its data, the length of a trial, and the grid; `noise` picks the published setting."""

    data: dict[str, Any]
    epochs: int
    grid: Grid
    noise: float

    def configurations(self) -> Iterator[tuple[tuple[int, ...] | str, dict[str, Any]]]:
        """Yields the baselines by name, then the grid's points by index, scattered over the grid."""
        yield from control_configs(BASELINES, 10, self.noise).items()
        points = list(product(*(range(len(values)) for values in self.grid.values())))
        for position in np.random.default_rng(0).permutation(len(points)):
            index = points[position]
            yield index, {name: self.grid[name][i] for name, i in zip(self.grid, index, strict=True)}


def problems(cifar: Path | None) -> dict[str, Curves]:
    """Returns the problems by name; CIFAR-10 where its folder is given."""
    kinds = {
        "digits_40": ("symmetric_exclusive", 0.4),
        "digits_60": ("symmetric_exclusive", 0.6),
        "digits_pair_flip": ("pair_flip", 0.4),
    }
    found = {
        name: Curves({"noise": noise, "noise_kind": kind}, 27, DIGITS_GRID, noise)
        for name, (kind, noise) in kinds.items()
    }
    if cifar:
        data = {"dataset": "folder", "data_dir": cifar, "max_images": 3_000, "image_size": 16}
        labels = {"labels_file": cifar / "cifar10n.npz", "labels_key": "worse_label"}
        found["cifar10n_worse"] = Curves(data | labels, 20, CIFAR_GRID, 0.4)
    return found


class Table:
    """The counts of right answers of a problem, in a file.

    Attributes:
        counts: `validation` [configuration, seed, epoch] and `test` [configuration, seed], uint16; grid points in the
            order of `itertools.product`, then the baselines.
        done: [configuration], whether it was trained with every seed.
    """

    def __init__(self, path: Path, curves: Curves) -> None:
        """Reads the file if there is one."""
        self._path = path
        shape = tuple(map(len, curves.grid.values()))
        configurations = int(np.prod(shape)) + len(BASELINES)
        self._shape = shape
        self.arrays: dict[str, NDArray[Any]] = {
            "validation": np.zeros((configurations, len(SEEDS), curves.epochs), np.uint16),
            "test": np.zeros((configurations, len(SEEDS)), np.uint16),
            "done": np.zeros(configurations, bool),
            "noise": np.array(curves.noise),
            **{name: np.array(values) for name, values in curves.grid.items()},
        }
        if path.exists():
            with np.load(path) as stored:
                self.arrays |= {name: stored[name] for name in stored.files}

    def row(self, key: tuple[int, ...] | str) -> int:
        """Returns where a configuration is."""
        if isinstance(key, str):
            return int(np.prod(self._shape)) + BASELINES.index(key)
        return int(np.ravel_multi_index(key, self._shape))

    def write(self) -> None:
        """Replaces the file at once, so that an interruption leaves the one before."""
        new = self._path.with_suffix(".new.npz")
        np.savez_compressed(new, allow_pickle=False, **self.arrays)
        os.replace(new, self._path)


def tabulate(name: str, curves: Curves, folder: Path) -> None:
    """Fills the table of a problem with what it lacks."""
    table = Table(folder / f"{name}.npz", curves)
    settings = DataSettings(validation_fraction=VALIDATION_FRACTION, **curves.data)
    data = DeviceDataset(load_dataset(settings), "cpu")
    images, labels = load_test_split(settings)
    chosen = np.random.default_rng(0).permutation(len(labels))[:TEST_IMAGES]
    test_images, test_labels = images_on(data.device, images[chosen]), torch.tensor(labels[chosen])
    table.arrays |= {
        "validation_images": np.array(len(data.validation_labels)),
        "test_images": np.array(len(test_labels)),
    }
    for key, values in curves.configurations():
        row = table.row(key)
        if table.arrays["done"][row]:
            continue
        for place, seed in enumerate(SEEDS):
            trial = TrialSettings(epochs=curves.epochs, batch_size=BATCH_SIZE, seed=seed, **values)
            validation, test = right_answers(trial, data, test_images, test_labels)
            table.arrays["validation"][row, place] = validation
            table.arrays["test"][row, place] = test
        table.arrays["done"][row] = True
        table.write()
        print(f"{name}: {table.arrays['done'].sum()} of {len(table.arrays['done'])}", flush=True)


def right_answers(
    settings: TrialSettings, data: DeviceDataset, test_images: Any, test_labels: torch.Tensor
) -> tuple[list[int], int]:
    """Counts the validation images that were right after each epoch, and the test images that are at the end.

    Both are 0 from where a trial diverged.
    """
    trainer = Trainer(settings, data)
    counts = [0] * settings.epochs
    try:
        for epoch in range(settings.epochs):
            counts[epoch] = round(trainer.train_epoch()["val_accuracy"] * len(data.validation_labels))
    except TrainingDiverged as error:
        print(f"{settings.model_dump(include=set(DIGITS_GRID))}: {error}")
        return counts, 0
    return counts, round(trainer.evaluate(test_images, test_labels).accuracy * len(test_labels))


def main() -> None:
    """Fill the tables, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", help="names of problems")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as folders, with cifar10n.npz")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, curves in problems(arguments.cifar).items():
        if name in (arguments.only or [name]):
            tabulate(name, curves, arguments.folder)


if __name__ == "__main__":
    main()
