"""Seconds per trivial trial on two workers: what a search costs besides training.

Ours is a real search (`start_search`, journal, checkpoints, TensorBoard) of trials that train `small_cnn` for one
epoch on 120 digits; the other is Ray's function trainable, which reports once and does nothing. Both run in the same
Ray, in turn, and a figure is the wall clock of a whole run by its number of trials: start and end of Tune count too.

    python benchmarks/turnover.py [--json FILE] [--rounds 3] [--trials 100] [--ray-trials 20]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from local_ray import local_ray
from measurement import alternate, write_result
from ray import tune

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.search.run import start_search

WORKERS = 2
OURS, RAY_FUNCTION = "ours", "ray_function"


def seconds_of_a_search(trials: int) -> float:
    """Wall clock of one search."""
    with TemporaryDirectory() as storage:
        settings = SearchSettings(
            name="turnover",
            storage=Path(storage),
            max_images=150,
            trial={"batch_size": 32},
            epochs=1,
            num_samples=trials,
            max_concurrent=WORKERS,
        )
        started = time.perf_counter()
        experiment = start_search(settings, _no_progress)
        seconds = time.perf_counter() - started
    assert experiment.counts()["finished"] == trials
    return seconds


def seconds_of_ray_functions(trials: int) -> float:
    """Wall clock of as many trials of a function that reports once."""
    with TemporaryDirectory() as storage:
        started = time.perf_counter()
        tune.run(
            _report_once,
            num_samples=trials,
            storage_path=storage,
            max_concurrent_trials=WORKERS,
            resources_per_trial={"cpu": 1},
            verbose=0,
        )
        return time.perf_counter() - started


def _report_once(config: dict[str, Any]) -> None:
    tune.report({"val_accuracy": 0.5})


def _no_progress(experiment: Experiment) -> None:
    """Shows nothing."""


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=100, help="of one of our runs")
    parser.add_argument("--ray-trials", type=int, default=20, help="of one of Ray's, each of which costs the same")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    trials, ray_trials = arguments.trials, arguments.ray_trials
    with local_ray(WORKERS):
        figures = alternate(
            {
                OURS: lambda: seconds_of_a_search(trials) / trials,
                RAY_FUNCTION: lambda: seconds_of_ray_functions(ray_trials) / ray_trials,
            },
            arguments.rounds,
        )
    run = {OURS: trials, RAY_FUNCTION: ray_trials}
    rows = [{"contestant": name, "trials": run[name], "seconds_per_trial": figures[name]} for name in figures]
    ratios = {
        "seconds_per_trial": median(figures[OURS]),
        "ray_function_seconds_per_trial": median(figures[RAY_FUNCTION]),
    }
    counts = f"{trials} trials of ours and {ray_trials} of Ray's on {WORKERS} workers"
    print(f"seconds per trial, {counts}, median of {arguments.rounds} rounds")
    print(f"ours {ratios['seconds_per_trial']:.3f}, Ray's function {ratios['ray_function_seconds_per_trial']:.3f}")
    if arguments.json is not None:
        write_result(arguments.json, "turnover", torch.device("cpu"), arguments.rounds, rows, ratios)


if __name__ == "__main__":
    main()
