"""Measures how well plain mixup, and the weights that the mentor gives in training, find wrong labels.

For each kind of noise on the digits, and each seed of it, plain mixup and three configurations of MentorMix train on
each fold, as in a search by default. Every image is scored by the network that did not train on it, as `labels` does
after a confirmation; by one minus its mean weight in the trainings of the other folds; and by both, as `labels`
combines them. The combination was chosen on seed 0; the others are reported.

    python benchmarks/label_training.py [--seeds 1-2] [--only NAME …] [--json FILE]
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from clean_terms import DIGITS
from label_quality import Measured, Row
from measurement import write_result
from numpy.typing import NDArray

from trainables.data import Dataset, load_named_dataset
from trainables.device import DeviceDataset, find_device
from trainables.settings import TrialSettings
from trainables.training import Trainer
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.label_quality import label_scores
from tune_mentormix.results.suspicious_labels import TrainingImages

CONTROLS = control_configs(("published", "mixup"), 10)
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "mixup": CONTROLS["mixup"],
    "published": CONTROLS["published"],
    "alpha 2": {"mixup_alpha": 2.0, "loss_p_percentile": 0.3, "burn_in": 5.0, "second_reweight": True},
    "alpha 16": {"mixup_alpha": 16.0, "loss_p_percentile": 0.8, "burn_in": 10.0, "second_reweight": False},
}


def train_folds(
    dataset: Dataset, images: TrainingImages, settings: TrialSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns probabilities [N, K] out of fold, and the mean weight [N] of each image where it was trained on."""
    count = len(images.names)
    probabilities = np.zeros((count, len(dataset.class_names)), np.float32)
    means = np.full((dataset.folds, count), np.nan, np.float32)
    for fold in range(dataset.folds):
        trainer = Trainer(settings, DeviceDataset(dataset.fold(fold), find_device("auto")))
        for _ in range(settings.epochs):
            trainer.train_epoch()
        assert trainer.validation is not None
        trial = Trial(fold, {}, fold=fold)
        probabilities[images.held_out(trial)] = trainer.validation.probabilities.float().cpu().numpy()
        weights = trainer.example_weights.mean()
        if weights is not None:
            means[fold, images.trained_on(trial)] = weights.cpu().numpy()
    return probabilities, np.nanmean(means, axis=0) if np.isfinite(means).any() else means[0]


def rows_of(name: str, search: SearchSettings) -> list[Row]:
    """Returns the lines of one kind of noise."""
    data = search.data_settings()
    dataset, names = load_named_dataset(data)
    images = TrainingImages.of(dataset, names, data.has_separate_validation)
    measured, rows = Measured(name, images), []
    everything = np.ones(len(images.names), np.bool_)
    for configuration, config in CONFIGURATIONS.items():
        settings = TrialSettings(**(search.common_trial_settings() | config))
        probabilities, weights = train_folds(dataset, images, settings)
        suggested = probabilities.argmax(axis=1)
        scores = {"probabilities": label_scores(images.given, probabilities)}
        if np.isfinite(weights).any():
            scores |= {"weights": 1 - weights, "both": label_scores(images.given, probabilities, weights)}
        for by, score in scores.items():
            row = measured.row(configuration, by, score, suggested, everything)
            rows.append(row | {"seed": data.data_seed})
    return rows


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=DIGITS, default=list(DIGITS), help="kinds of noise to measure")
    parser.add_argument("--seeds", default="1-2", help="first and last, of noise and split")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    first, last = (int(part) for part in arguments.seeds.split("-"))
    for name, seed in product(arguments.only, range(first, last + 1)):
        for row in rows_of(name, read_settings(None, {"dataset": "digits", "data_seed": seed} | DIGITS[name])):
            rows.append(row)
            shown: dict[str, Any] = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            print(", ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
    if arguments.json:
        cells = dict.fromkeys((row["method"], row["scored"]) for row in rows)
        ratios = {
            f"auroc/{method}/{by}": median(r["auroc"] for r in rows if (r["method"], r["scored"]) == (method, by))
            for method, by in cells
        }
        write_result(arguments.json, "label_training", torch.device("cpu"), last - first + 1, rows, ratios)


if __name__ == "__main__":
    main()
