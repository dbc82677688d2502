"""What plain mixup, and the weights that the mentor gives in training, tell of wrong labels.

For each kind of noise on the digits, plain mixup and the published setting for 40 % noise train on each fold, with
the settings of a search by default. Every image is scored by the network that did not train on it, as `labels` does
after a confirmation; and by one minus its mean weight in the other folds' trainings, after the burn-in; and by the
mean of both ranks. `label_quality.py` has the other methods on the same labels.

    python benchmarks/label_training.py [--only NAME …] [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from clean_terms import DIGITS
from label_quality import Measured, Row
from measurement import write_result
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from trainables.data import Dataset, load_named_dataset
from trainables.device import DeviceDataset, find_device
from trainables.settings import TrialSettings
from trainables.training import Trainer
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.settings import SearchSettings, read_settings
from tune_mentormix.results.label_quality import label_scores
from tune_mentormix.results.suspicious_labels import TrainingImages

CONTROLS = ("published", "mixup")


class WeighingTrainer(Trainer):
    """Trains, and sums the weights that each training image gets after the burn-in."""

    def __init__(self, settings: TrialSettings, data: DeviceDataset) -> None:
        super().__init__(settings, data)
        self.weight_sums = torch.zeros(len(data.train_labels), dtype=torch.float64, device=data.device)
        self.counts = torch.zeros_like(self.weight_sums)
        objective = self._objective

        def weighing(step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            loss, weights = objective(step, images, labels)
            if 100 * step // self._steps >= settings.burn_in:
                self.weight_sums[self._batch_index] += weights.detach()
                self.counts[self._batch_index] += 1
            return loss, weights

        self._objective = weighing  # type: ignore[assignment]

    def train_step(self, step: int, batch_index: Tensor) -> Tensor:
        """Remembers whose weights the objective will give."""
        self._batch_index = batch_index
        return super().train_step(step, batch_index)


def train_folds(
    dataset: Dataset, images: TrainingImages, settings: TrialSettings
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Returns probabilities [N, K] out of fold, and the mean weight [N] of each image where it was trained on."""
    count = len(images.names)
    probabilities = np.zeros((count, len(dataset.class_names)), np.float32)
    weight_sums, counts = np.zeros(count), np.zeros(count)
    for fold in range(dataset.folds):
        trainer = WeighingTrainer(settings, DeviceDataset(dataset.fold(fold), find_device("auto")))
        for _ in range(settings.epochs):
            trainer.train_epoch()
        assert trainer.validation is not None
        held_out = dataset.held_out_positions(fold)
        probabilities[held_out] = trainer.validation.probabilities.float().cpu().numpy()
        trained = np.setdiff1d(np.arange(count), held_out)
        assert (images.given[trained] == trainer.data.train_labels.cpu().numpy()).all()
        weight_sums[trained] += trainer.weight_sums.cpu().numpy()
        counts[trained] += trainer.counts.cpu().numpy()
    return probabilities, weight_sums / np.maximum(counts, 1)


def rows_of(name: str, search: SearchSettings) -> list[Row]:
    """Returns the lines of one kind of noise."""
    data = search.data_settings()
    dataset, names = load_named_dataset(data)
    images = TrainingImages.of(dataset, names, data.has_separate_validation)
    measured, rows = Measured(name, images), []
    everything = np.ones(len(images.names), np.bool_)
    for control, config in control_configs(CONTROLS, len(dataset.class_names)).items():
        settings = TrialSettings(**(search.common_trial_settings() | config))
        probabilities, weights = train_folds(dataset, images, settings)
        scores, suggested = label_scores(images.given, probabilities), probabilities.argmax(axis=1)
        rows.append(measured.row(control, "out of fold", scores, suggested, everything))
        if control == "published":
            rows.append(measured.row("mentor's weights", "in sample", 1 - weights, None, everything))
            both = rankdata(scores) + rankdata(1 - weights)
            rows.append(measured.row("published with mentor's weights", "both", both, suggested, everything))
    return rows


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=DIGITS, default=list(DIGITS), help="kinds of noise to measure")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in arguments.only:
        for row in rows_of(name, read_settings(None, {"dataset": "digits"} | DIGITS[name])):
            rows.append(row)
            shown: dict[str, Any] = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            print(", ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
    if arguments.json:
        methods = dict.fromkeys(row["method"] for row in rows)
        ratios = {f"auroc/{name}": median(row["auroc"] for row in rows if row["method"] == name) for name in methods}
        write_result(arguments.json, "label_training", torch.device("cpu"), len(arguments.only), rows, ratios)


if __name__ == "__main__":
    main()
