"""How well label noise is estimated, and accuracies on clean labels: from one split and from a confirmation's folds.

For each kind of noise a search and its confirmation run, or those of an earlier call in the same storage are read.
The estimates use no true label: symmetric noise that was added here is treated as unknown; what its known rate gives
is tabulated beside. The truth is that of the training labels, and the accuracy on the clean test split. What search
and confirmation say in words stands in each row too.

    python benchmarks/clean_terms.py --storage DIR [--cifar DIR] [--image-size 16] [--only NAMES] [--json FILE]
        [--epochs 40] [--trials 12] [--top-k 2] [--seeds 5]

`--cifar` is a folder with `train/`, `test/` (class folders) and `cifar10n.npz`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from measurement import write_result

from trainables.data import Dataset, load_dataset, load_test_split
from trainables.inference import final_accuracy
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.experiment.checkpoints import newest_checkpoint
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, read_experiment
from tune_mentormix.experiment.schemas import CleanEstimate, NoiseEstimate
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.clean_terms import clean_estimate, clean_estimate_over_runs, noise_reference
from tune_mentormix.results.confirmation import Confirmation
from tune_mentormix.results.confirmation_summary import verdicts
from tune_mentormix.results.label_quality import pool_noise
from tune_mentormix.results.summary import summarize
from tune_mentormix.search.confirm import confirm_search
from tune_mentormix.search.run import resume_search, start_search

DIGITS = {
    "symmetric-20": {"noise": 0.2, "noise_kind": "symmetric_exclusive"},
    "symmetric-40": {"noise": 0.4, "noise_kind": "symmetric_exclusive"},
    "symmetric-60": {"noise": 0.6, "noise_kind": "symmetric_exclusive"},
    "pair-flip-40": {"noise": 0.4, "noise_kind": "pair_flip"},
    "instance-40": {"noise": 0.4, "noise_kind": "instance_dependent"},
}
CIFAR_LABELS = {
    "cifar10n-aggre": "aggre_label",
    "cifar10n-random1": "random_label1",
    "cifar10n-worse": "worse_label",
}
CIFAR_IMAGES = 5_000


class Measured:
    """A finished search with its confirmation, and what is true of its labels and trials."""

    def __init__(self, experiment: Experiment, confirmation: Confirmation) -> None:
        self.experiment, self.confirmation = experiment, confirmation
        data = experiment.settings.data_settings()
        self._dataset: Dataset = load_dataset(data)
        self._test = load_test_split(data)
        self._threads = experiment.settings.threads()
        assert self._dataset.noise_rate is not None
        assert self._dataset.transition_matrix is not None
        self.rate, self.transition = self._dataset.noise_rate, self._dataset.transition_matrix

    def test_accuracy(self, experiment: Experiment, trial: Trial) -> float:
        """Measures a trial's last weights on the clean test split."""
        checkpoint = newest_checkpoint(experiment, trial)
        assert checkpoint is not None
        return final_accuracy(trial.config, self._dataset, checkpoint, *self._test, self._threads, trial.fold or 0)

    def row(self, name: str, source: str, noise: NoiseEstimate, pairs: Sequence[Pair], known: Sequence[Pair]) -> Row:
        """Returns a line of the table; `pairs` are estimates and test accuracies, `known` with the true rate."""
        difference = np.abs(np.array(noise.transition) - self.transition)
        return {
            "noise": name,
            "epochs": self.experiment.settings.epochs,
            "from": source,
            "true_rate": self.rate,
            "estimated_rate": noise.rate,
            "matrix_mean_error": float(difference.mean()),
            "matrix_max_error": float(difference.max()),
            "is_symmetric": noise.is_symmetric,
            "concentration": noise.concentration,
            "networks": len(pairs),
            **errors("clean", pairs),
            **errors("clean_known_rate", known),
            "search_says": summarize(self.experiment).headline,
            "confirmation_says": self._confirmation_says(),
        }

    def _confirmation_says(self) -> str | None:
        winner = self.confirmation.winner()
        return " ".join(verdicts(self.confirmation, winner)) if winner else None


Pair = tuple[CleanEstimate | None, float]
Row = dict[str, Any]


def errors(prefix: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Returns mean and largest error of the estimates, their bias, and how many intervals hold the test accuracy."""
    shown = [(estimate, truth) for estimate, truth in pairs if estimate]
    differences = [estimate.accuracy - truth for estimate, truth in shown]
    return {
        f"{prefix}_estimates": len(shown),
        f"{prefix}_mean_error": fmean(map(abs, differences)) if shown else None,
        f"{prefix}_max_error": max(map(abs, differences)) if shown else None,
        f"{prefix}_bias": fmean(differences) if shown else None,
        f"{prefix}_intervals_hold": sum(estimate.low <= truth <= estimate.high for estimate, truth in shown),
    }


def blind(experiment: Experiment) -> Experiment:
    """Returns the search as if its labels had come with their noise."""
    return replace(experiment, settings=experiment.settings.model_copy(update={"noise": 0.0}))


def rows_of(name: str, measured: Measured) -> list[Row]:
    """Returns the line of one split, and that of the folds."""
    experiment, confirmation, rows = measured.experiment, measured.confirmation, []
    finished = experiment.finished_trials()
    truths = [measured.test_accuracy(experiment, trial) for trial in finished]
    reference = noise_reference(finished)
    if reference:
        pairs = [(clean_estimate(blind(experiment), t), truth) for t, truth in zip(finished, truths, strict=True)]
        known = [(clean_estimate(experiment, t), truth) for t, truth in zip(finished, truths, strict=True)]
        known = known if name.startswith("symmetric") else []
        rows.append(measured.row(name, "one split", reference.noise, pairs, known))
    best = next(iter(confirmation.ranking()), None)
    reference_runs = finished_runs(confirmation, best) if best else []
    pooled = pool_noise([run.noise for run in reference_runs if run.noise])
    if pooled:
        pairs, known = [], []
        for candidate in confirmation.candidates:
            runs = finished_runs(confirmation, candidate)
            if runs:
                truth = fmean(measured.test_accuracy(confirmation.runs, run) for run in runs)
                arguments = (runs, reference_runs, confirmation.folds)
                pairs.append((clean_estimate_over_runs(blind(experiment), *arguments), truth))
                known.append((clean_estimate_over_runs(experiment, *arguments), truth))
        known = known if name.startswith("symmetric") else []
        rows.append(measured.row(name, f"{confirmation.folds} folds", pooled, pairs, known))
    return rows


def finished_runs(confirmation: Confirmation, candidate: Any) -> list[Trial]:
    """Returns the runs of a candidate that ran to their end."""
    return [run for run in confirmation.runs_of(candidate).values() if run.state == "finished"]


def measure(name: str, options: dict[str, Any], arguments: argparse.Namespace) -> list[Row]:
    """Runs what is left of a search and its confirmation, and measures them."""
    storage: Path = arguments.storage
    if (storage / name / SEARCH_FILE).is_file():
        experiment = read_experiment(storage, name)
        if experiment.state() != "finished":
            experiment = resume_search(storage, name, {}, lambda _: None)
    else:
        asked = {"name": name, "storage": str(storage), "epochs": arguments.epochs, "num_samples": arguments.trials}
        experiment = start_search(read_settings(None, asked | options), lambda _: None)
    confirmation = confirm_search(storage, name, arguments.top_k, arguments.seeds, {}, lambda _: None)
    return rows_of(name, Measured(experiment, confirmation))


def cifar_options(folder: Path, key: str, image_size: int | None) -> dict[str, Any]:
    """Returns the settings of a search on labels given by people."""
    options = {"dataset": "folder", "data_dir": str(folder), "max_images": CIFAR_IMAGES, "image_size": image_size}
    return options | {"labels_file": str(folder / "cifar10n.npz"), "labels_key": key}


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--storage", type=Path, required=True, help="where the searches are, or are kept")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as folders, with cifar10n.npz")
    parser.add_argument("--image-size", type=int, help="resize CIFAR-10 to this many pixels a side")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--only", nargs="+", help="names of the rows to measure")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--top-k", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    problems: dict[str, dict[str, Any]] = {name: {"dataset": "digits"} | noise for name, noise in DIGITS.items()}
    if arguments.cifar:
        size = arguments.image_size
        problems |= {name: cifar_options(arguments.cifar, key, size) for name, key in CIFAR_LABELS.items()}
    rows = []
    for name, options in problems.items():
        if arguments.only and name not in arguments.only:
            continue
        for row in measure(name, options, arguments):
            rows.append(row)
            print(
                ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True
            )
    if arguments.json is not None:
        ratios = {
            f"mean_error/{row['noise']}/{row['epochs']} epochs/{row['from']}": row["clean_mean_error"]
            for row in rows
            if row["clean_estimates"]
        }
        write_result(arguments.json, "clean_terms", torch.device("cpu"), arguments.trials, rows, ratios)


if __name__ == "__main__":
    main()
