"""Measures a preset for fine-tuning: from pretrained weights, from scratch, and against the defaults.

A `small_cnn` is trained on the six animals of CIFAR-10 with clean labels, once. From its weights each contestant
trains on a few images of the four vehicles with 40 % symmetric noise, which none of it has seen; the last epoch is
measured on the clean test images of the vehicles. All use the published values of the three that decide, for 40 %.
Settings were chosen on seed 0 (`--choose`), and the others are reported. Seeds are paired: images, noise and split
change with the seed, and are the same for all contestants.

    python benchmarks/fine_tuning.py --cifar DIR --work DIR [--seeds 1-10] [--images 300 600 1250] [--choose]
        [--json FILE]

`--cifar` is a folder with `train/` and `test/` (class folders); `--work` keeps the pretrained weights.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from measurement import write_result

from trainables.data import load_dataset, load_test_split
from trainables.settings import PRESETS, DataSettings, TrialSettings
from trainables.training import Trainer, begin_training
from tune_mentormix.config.controls import control_configs, published_setting
from tune_mentormix.results.statistics import confidence_interval

ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
VEHICLES = ("airplane", "automobile", "ship", "truck")
NOISE = 0.4
IMAGES = [300, 600, 1_250]  # of the vehicles; a fifth is held out, as in a search
EPOCHS = 15
PRETRAINING: dict[str, Any] = {
    "network": "small_cnn",
    "epochs": 12,
    "lr_schedule": "cosine",
    "augmentation": "crop_flip",
} | control_configs(["plain"], len(ANIMALS))["plain"]
PRETRAINING_IMAGES = 20_000
SIZE = 16  # pixels a side, to which images are resized

FINETUNE = PRESETS["finetune"]
CANDIDATES: dict[str, dict[str, Any]] = {
    "sgd 0.003": {"learning_rate": 0.003},
    "sgd 0.01": {"learning_rate": 0.01},
    "sgd 0.03": {},
    "sgd 0.03, never frozen": {"freeze_backbone_epochs": 0},
    "sgd 0.03, flips": {"augmentation": "crop_flip"},
    "sgd 0.01, one rate": {"learning_rate": 0.01, "head_lr_factor": 1.0},
    "adamw 0.001": {"optimizer": "adamw", "learning_rate": 1e-3, "head_lr_factor": 1.0},
}


def folder_of(classes: tuple[str, ...], cifar: Path, work: Path) -> Path:
    """Returns a folder with these classes alone, as links."""
    folder = work / "-".join(classes)
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for name in classes:
            link = folder / split / name
            if not link.exists():
                link.symlink_to((cifar / split / name).absolute())
    return folder


def train(settings: TrialSettings, data: DataSettings) -> tuple[Trainer, float]:
    """Trains in full; returns the trainer and its accuracy on the clean test images."""
    trainer = begin_training(settings, load_dataset(data), threads=1)
    for _ in range(settings.epochs):
        trainer.train_epoch()
    images, labels = (torch.tensor(part).to(trainer.data.device) for part in load_test_split(data))
    return trainer, trainer.evaluate(images, labels).accuracy


def pretrained_weights(cifar: Path, work: Path) -> Path:
    """Returns the weights of a network that knows animals, which is trained if it is not there yet."""
    path = work / "animals.safetensors"
    if not path.is_file():
        data = DataSettings(
            dataset="folder",
            data_dir=folder_of(ANIMALS, cifar, work),
            image_size=SIZE,
            max_images=PRETRAINING_IMAGES,
            cache_dir=work / "cache",
        )
        trainer, accuracy = train(TrialSettings(**PRETRAINING), data)
        print(f"pretrained on {len(ANIMALS)} animals: {accuracy:.4f} of their test images", flush=True)
        safetensors.torch.save_file({key: value.contiguous() for key, value in trainer.weights().items()}, path)
    return path


def main() -> None:
    """Train, print the accuracies, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cifar", type=Path, required=True, help="CIFAR-10 as folders")
    parser.add_argument("--work", type=Path, required=True, help="keeps weights, links and decoded images")
    parser.add_argument("--seeds", default="1-10", help="first and last, of images, noise, split and training")
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="sizes of the training set")
    parser.add_argument("--choose", nargs="*", help="compare candidates on seed 0 instead: all, or these")
    parser.add_argument("--processes", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    weights = {"weights": str(pretrained_weights(arguments.cifar, arguments.work))}
    contestants: dict[str, dict[str, Any]] = {
        "preset, pretrained": FINETUNE | weights,
        "preset, from scratch": FINETUNE,
        "defaults, pretrained": weights,
    }
    first, last = (int(part) for part in arguments.seeds.split("-"))
    if arguments.choose is not None:
        first = last = 0
        chosen = arguments.choose or list(CANDIDATES)
        contestants = {name: FINETUNE | weights | CANDIDATES[name] for name in chosen}
    data = {
        "dataset": "folder",
        "data_dir": folder_of(VEHICLES, arguments.cifar, arguments.work),
        "image_size": SIZE,
        "noise": NOISE,
        "cache_dir": arguments.work / "cache",
    }
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        asked = list(product(arguments.images, range(first, last + 1), contestants))
        for row in pool.map(fine_tune, *zip(*((data, *each, contestants[each[2]]) for each in asked), strict=True)):
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if arguments.choose is None:
        report(rows, list(contestants), arguments.images, last - first + 1, arguments.json)


def fine_tune(data: dict[str, Any], images: int, seed: int, name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Trains one contestant on so many images with one seed; returns its row of the table."""
    common = {"network": PRETRAINING["network"], "epochs": EPOCHS} | published_setting(NOISE, len(VEHICLES))
    trainer, accuracy = train(
        TrialSettings(**(common | {"seed": seed} | values)), DataSettings(**data, max_images=images, data_seed=seed)
    )
    noisy = trainer.metrics["val_accuracy"]
    about = {"contestant": name, "images": images, "seed": seed}
    return about | {"noisy_val_accuracy": noisy, "test_accuracy": accuracy}


def report(
    rows: list[dict[str, Any]], contestants: list[str], sizes: list[int], seeds: int, file: Path | None
) -> None:
    """Print how far the first contestant is ahead of each other one, with 95 % intervals, and write the JSON."""
    ahead, *others = contestants
    ratios: dict[str, float] = {}
    for images in sizes:
        of_size = [row for row in rows if row["images"] == images]
        accuracies = {
            name: [row["test_accuracy"] for row in of_size if row["contestant"] == name] for name in contestants
        }
        for name, values in accuracies.items():
            ratios[f"test_accuracy/{images} images/{name}"] = sum(values) / seeds
            print(f"{images} images, {name}: {sum(values) / seeds:.4f}")
        for name in others:
            interval = confidence_interval([a - b for a, b in zip(accuracies[ahead], accuracies[name], strict=True)])
            print(f"{images} images, {ahead} − {name}: {interval.in_points()} points (95 %, n = {interval.n})")
            figures = {"mean": interval.mean, "low": interval.low, "high": interval.high}
            ratios |= {
                f"gain_over/{images} images/{name}/{key}": value
                for key, value in figures.items()
                if value is not None
            }
    if file:
        write_result(file, "fine_tuning", torch.device("cpu"), seeds, rows, ratios)


if __name__ == "__main__":
    main()
