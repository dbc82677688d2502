"""Whether the reference's missing weight decay matters: with `second_reweight` its code has none, the paper has.

Trains the published setting for 60 % noise (`mixup_alpha` 8, `loss_p_percentile` 0.6, `second_reweight`) on the
digits with 60 % symmetric noise, with weight decay and without it, and measures every network on the clean test
split. Seeds are paired: split and noise of the labels, first weights, order of the images and mixing are the same.

    python benchmarks/decay_rule.py [--json FILE] [--seeds 20] [--epochs 60]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measurement import write_result
from scipy import stats

from trainables.data import load_dataset, load_test_split
from trainables.device import DeviceDataset
from trainables.settings import DataSettings, TrialSettings
from trainables.training import Trainer
from tune_mentormix.config.controls import published_setting

NOISE = 0.6
THREADS = 1


def test_accuracy(seed: int, epochs: int, decays: bool) -> float:
    """Trains once and returns the accuracy on the clean test split, 0 … 1; split and noise change with the seed."""
    data = DataSettings(dataset="digits", noise=NOISE, data_seed=seed)
    dataset = load_dataset(data)
    setting = published_setting(NOISE, len(dataset.class_names)) | {"decay_under_second_reweight": decays}
    trainer = Trainer(TrialSettings(seed=seed, epochs=epochs, **setting), DeviceDataset(dataset, "cpu"))
    for _ in range(epochs):
        trainer.train_epoch()
    images, labels = load_test_split(data)
    return trainer.evaluate(torch.tensor(images), torch.tensor(labels)).accuracy


def main() -> None:
    """Train, print the difference, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()

    torch.set_num_threads(THREADS)
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        accuracies = {
            name: test_accuracy(seed, arguments.epochs, decays)
            for name, decays in (("with_decay", True), ("without_decay", False))
        }
        rows.append({"seed": seed, **accuracies})
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in accuracies.items()), flush=True)

    differences = np.array([row["without_decay"] - row["with_decay"] for row in rows])
    interval = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
    print(
        f"without − with decay: mean {differences.mean():+.4f}, 95 % interval {interval[0]:+.4f} … {interval[1]:+.4f}"
    )
    if arguments.json is not None:
        ratios = {
            "without_minus_with_decay": median(differences),
            "mean_difference": float(differences.mean()),
            "interval_low": float(interval[0]),
            "interval_high": float(interval[1]),
        }
        write_result(arguments.json, "decay_rule", torch.device("cpu"), arguments.seeds, rows, ratios)


if __name__ == "__main__":
    main()
