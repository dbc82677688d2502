"""Measures how much a few verified labels help to choose among the candidates of a search.

Each problem has 24 candidates (the published settings, plain mixup, plain training, and random points of the default
space), trained on the digits with wrong labels, another split and other noise with every seed. Clean labels stand in
for the person who verifies.

    python benchmarks/verification.py --storage DIR [--json FILE] [--seeds 5-24] [--only pair-flip-40]

The predictions of every candidate are kept in `--storage`, so that an interrupted run goes on where it was: about
five seconds of a core each, 80 × 24 of them for all seeds. The constants of `results.verification` were chosen on
seed 0 of `pair-flip-40` and `instance-55`; the seeds measured by default are others.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from measurement import write_result
from numpy.typing import NDArray

from trainables.data import Dataset, load_dataset, load_test_split
from trainables.data.streaming import in_memory
from trainables.errors import TrainingDiverged
from trainables.settings import DataSettings, TrialSettings
from trainables.training import begin_training
from tune_mentormix.config.controls import control_configs, published_setting
from tune_mentormix.results.verification import Evidence, Sample, draw_order, mean_interval

CANDIDATES, EPOCHS, THREADS = 24, 30, 1
PROBLEMS: dict[str, dict[str, Any]] = {
    "symmetric-60": {"noise": 0.6, "noise_kind": "symmetric_exclusive"},
    "pair-flip-40": {"noise": 0.4, "noise_kind": "pair_flip"},
    "instance-40": {"noise": 0.4, "noise_kind": "instance_dependent"},
    "instance-55": {"noise": 0.55, "noise_kind": "instance_dependent"},
}


def configurations(seed: int) -> list[dict[str, Any]]:
    """Returns the controls, the published setting for 60 % noise, and random points of the default space."""
    generator = np.random.default_rng([seed, 24])
    chosen = [*control_configs(("published", "mixup", "plain"), 10).values(), published_setting(0.6, 10)]
    while len(chosen) < CANDIDATES:
        chosen.append(
            {
                "mixup_alpha": float(np.exp(generator.uniform(np.log(0.4), np.log(32)))),
                "loss_p_percentile": float(generator.uniform(0.1, 0.9)),
                "burn_in": float(generator.integers(0, 16)),
                "second_reweight": bool(generator.integers(2)),
            }
        )
    return [config | {"seed": seed, "epochs": EPOCHS} for config in chosen]


def data_settings(problem: str, seed: int) -> DataSettings:
    """Returns the digits with this problem's noise, and a fifth of them to validate on."""
    return DataSettings(dataset="digits", validation_fraction=0.2, data_seed=seed, **PROBLEMS[problem])


def train(dataset: Dataset, config: dict[str, Any], test: tuple[NDArray[Any], NDArray[Any]]) -> dict[str, Any]:
    """Trains a candidate; returns its probabilities on the validation images, and its clean test accuracy."""
    trainer = begin_training(TrialSettings.model_validate(config), dataset, THREADS)
    try:
        for _ in range(EPOCHS):
            trainer.train_epoch()
    except TrainingDiverged:
        even = np.full((len(dataset.validation_labels), len(dataset.class_names)), 1 / len(dataset.class_names))
        return {"probabilities": even.astype(np.float16), "test": 0.0}
    images, labels = (torch.tensor(part).to(trainer.data.device) for part in test)
    assert trainer.validation is not None
    probabilities = trainer.validation.probabilities.cpu().numpy()
    return {"probabilities": probabilities, "test": trainer.evaluate(images, labels).accuracy}


def trained(storage: Path, problem: str, seed: int) -> tuple[Dataset, NDArray[np.float16], NDArray[np.float64]]:
    """Returns the data, and of all candidates the validation probabilities [C, M, K] and test accuracies [C]."""
    data = data_settings(problem, seed)
    dataset, (test_images, test_labels), results = load_dataset(data), load_test_split(data), []
    test = in_memory(test_images), test_labels
    for number, config in enumerate(configurations(seed)):
        path = storage / problem / f"seed-{seed}" / f"{number:02d}.npz"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **train(dataset, config, test))
            partial.replace(path)
        with np.load(path) as arrays:
            results.append((arrays["probabilities"], float(arrays["test"])))
    probabilities, accuracies = zip(*results, strict=True)
    return dataset, np.stack(probabilities), np.array(accuracies)


METHODS = {"picked": True, "random": False}  # whether images on which candidates disagree are preferred
ANSWERS = (0, 5, 10, 20, 40, 80)
REPEATS = 5  # orders drawn for each seed
NOTHING_KNOWN = np.empty(0, np.int64)


def measure(problem: str, seed: int, storage: Path) -> list[dict[str, Any]]:
    """Returns a row for each method and number of answers: accuracy of the chosen one, regret, and coverage.

    Each is the mean over the orders drawn.
    """
    dataset, probabilities, test = trained(storage, problem, seed)
    assert dataset.validation_clean_labels is not None
    right, images = dataset.validation_clean_labels, np.arange(len(dataset.validation_labels))
    answers = probabilities.argmax(axis=2)[:, None, :].astype(np.int16)
    evidence = Evidence(probabilities, answers, dataset.validation_labels)
    truth = evidence.is_right(images, right).mean(axis=1)
    common: dict[str, Any] = {
        "problem": problem,
        "seed": seed,
        "best": round(float(test.max()), 4),
        "published": round(float(test[0]), 4),
        "noisy_best": round(float(test[evidence.noisy_accuracies.argmax()]), 4),
        "all_verified": round(float(test[evidence.ranking(np.eye(len(dataset.class_names))[right])[0]]), 4),
        "correlation_of_noisy": round(float(np.corrcoef(evidence.noisy_accuracies, test)[0, 1]), 4),
    }
    rows = []
    for method, prefers in METHODS.items():
        disagreement = evidence.disagreement() if prefers else np.zeros(len(images))
        figures: dict[int, list[dict[str, float]]] = {count: [] for count in ANSWERS}
        for repeat in range(REPEATS):
            order, sizes = draw_order(disagreement, np.ones(len(images), np.bool_), REPEATS * seed + repeat)
            for count in ANSWERS:
                drawn = order[:count]
                chosen = evidence.ranking(evidence.beliefs(drawn, right[drawn]))[0]
                sample = Sample(drawn, right[drawn], NOTHING_KNOWN, NOTHING_KNOWN, sizes, NOTHING_KNOWN)
                figures[count].append(
                    {"chosen": float(test[chosen]), "regret": float(test.max() - test[chosen])}
                    | (coverage(sample.accuracies(evidence), truth, chosen) if count > 1 else {})
                )
        for count, of_count in figures.items():
            means = {name: round(fmean(row[name] for row in of_count), 4) for name in of_count[0]}
            rows.append(common | {"method": method, "answers": count} | means)
    return rows


def coverage(estimates: NDArray[np.float64], truth: NDArray[np.float64], chosen: int) -> dict[str, float]:
    """Returns the share of 95 % intervals that hold the true accuracy on the pool, and their mean half width."""
    intervals = [mean_interval(each) for each in estimates]
    ends = [(each.low, each.high) if each and each.half_width is not None else (0.0, 0.0) for each in intervals]
    low, high = np.array(ends, np.float64).T
    holds = (low <= truth) & (truth <= high)
    half_width = float((high - low).mean() / 2)
    return {"coverage": float(holds.mean()), "coverage_chosen": float(holds[chosen]), "half_width": half_width}


def tabulate(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Prints the means over seeds and repeats, and returns those of the regret."""
    ratios = {}
    for problem, method, count in product(PROBLEMS, METHODS, ANSWERS):
        part = [row for row in rows if (row["problem"], row["method"], row["answers"]) == (problem, method, count)]
        if not part:
            continue
        columns = (
            "noisy_best",
            "chosen",
            "best",
            "all_verified",
            "regret",
            "coverage",
            "coverage_chosen",
            "half_width",
        )
        means = {name: fmean(row[name] for row in part) for name in columns if name in part[0]}
        shown = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
        print(f"{problem}, {method}, {count} answers: {shown}", flush=True)
        ratios[f"regret/{problem}/{method}/{count}"] = means["regret"]
    return ratios


def main() -> None:
    """Train what is missing, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--storage", type=Path, required=True, help="where predictions are, or are kept")
    parser.add_argument("--json", type=Path, help="write the result to this file, and keep its other seeds")
    parser.add_argument("--seeds", default="5-24", help="first and last")
    parser.add_argument("--only", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="problems to measure")
    arguments = parser.parse_args()
    first, last = (int(part) for part in arguments.seeds.split("-"))
    seeds = range(first, last + 1)
    rows: list[dict[str, Any]] = []
    for seed, problem in product(seeds, arguments.only):
        rows += measure(problem, seed, arguments.storage)
        print(f"{problem}, seed {seed}: measured", flush=True)
    if arguments.json is not None and arguments.json.exists():
        measured = {(row["problem"], row["seed"]) for row in rows}
        kept = json.loads(arguments.json.read_text())["rows"]
        rows = [row for row in kept if (row["problem"], row["seed"]) not in measured] + rows
    ratios = tabulate(rows)
    if arguments.json is not None:
        count = len({row["seed"] for row in rows})
        write_result(arguments.json, "verification", torch.device("cpu"), count, rows, ratios)


if __name__ == "__main__":
    main()
