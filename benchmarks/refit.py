"""What the held-out fifth of the labels is worth: a refit on all images against training on 80 % of them.

Trains the published setting for the noise rate on the digits with 40 % and 60 % symmetric noise, once on the training
split as a search does, once on all images as `export --refit` does, for as many epochs, and measures the last epoch's
weights on the clean test split. Seeds are paired: noise, first weights and test images are the same; split and noise
change with the seed.

    python benchmarks/refit.py [--json FILE] [--seeds 10] [--epochs 60] [--noise 0.4 0.6]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measurement import write_result

from trainables.data import Dataset, load_dataset, load_test_split
from trainables.settings import DataSettings, TrialSettings
from trainables.training import begin_training
from tune_mentormix.config.controls import published_setting
from tune_mentormix.results.statistics import confidence_interval

THREADS = 1


def test_accuracy(dataset: Dataset, settings: TrialSettings, test: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Trains once and returns the accuracy on the clean test split, 0 … 1."""
    trainer = begin_training(settings, dataset, THREADS)
    for _ in range(settings.epochs):
        trainer.train_epoch()
    images, labels = (part.to(trainer.data.device) for part in test)
    return trainer.evaluate(images, labels).accuracy


def compare(noise: float, seed: int, epochs: int) -> dict[str, Any]:
    """Trains on the split and on all images, with one seed."""
    data = DataSettings(dataset="digits", noise=noise, data_seed=seed)
    dataset = load_dataset(data)
    images, labels = map(torch.tensor, load_test_split(data))
    setting = published_setting(noise, len(dataset.class_names))
    settings = TrialSettings.model_validate({"seed": seed, "epochs": epochs} | setting)
    contestants = {"training_split": dataset, "all_images": dataset.all_images()}
    accuracies = {name: test_accuracy(part, settings, (images, labels)) for name, part in contestants.items()}
    return {"noise": noise, "seed": seed, **accuracies}


def main() -> None:
    """Train, print the differences, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.4, 0.6])
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for noise in arguments.noise:
        differences = []
        for seed in range(arguments.seeds):
            row = compare(noise, seed, arguments.epochs)
            rows.append(row)
            differences.append(row["all_images"] - row["training_split"])
            print(", ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
        interval = confidence_interval(differences)
        print(f"noise {noise:g}: all images − training split {interval.in_points()} points (95 %, n = {interval.n})")
        name = f"refit_minus_split/{noise:g}"
        figures = {"": median(differences), "_mean": interval.mean, "_low": interval.low, "_high": interval.high}
        ratios |= {name + suffix: figure for suffix, figure in figures.items() if figure is not None}
    if arguments.json is not None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        write_result(arguments.json, "refit", device, arguments.seeds, rows, ratios)


if __name__ == "__main__":
    main()
