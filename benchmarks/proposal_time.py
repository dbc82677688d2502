"""Measures how long a sampler takes to propose a trial, by the number of trials that it knows.

The trials were trained in full and report what the closed form of `search_efficiency` gives. TPE and GP, which would
take long for a thousand proposals, know such as were drawn at random; the others proposed theirs. What is timed is
what the driver does for a proposal (`SearchStudy.propose`). The grid has 2,304 points of that space.

    python benchmarks/proposal_time.py [--json FILE] [--rounds 5] [--trials 20 200 1000]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measurement import write_result
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from problems import CrossingCurves

from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.experiment.events import Finished, Proposed, Report
from tune_mentormix.search.study import SAMPLERS, SearchStudy

PROBLEM = CrossingCurves()
SLOW = ("tpe", "gp")


def space_for(sampler: str) -> SearchSpace:
    """Returns a space that the sampler can search."""
    if sampler != "grid":
        return PROBLEM.space
    points: dict[str, BaseDistribution] = {
        "mixup_alpha": CategoricalDistribution([0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 32.0]),
        "loss_p_percentile": FloatDistribution(0.1, 0.9, step=0.1),
        "burn_in": IntDistribution(0, 15),
    }
    return SearchSpace(PROBLEM.space.distributions | points, {})


def study_with(sampler: str, trials: int) -> SearchStudy:
    """Returns a study that knows so many trials."""
    space = space_for(sampler)
    study = SearchStudy(space, sampler, seed=0)
    source = SearchStudy(space, "random", seed=1) if sampler in SLOW else study
    for number in range(trials):
        params = source.propose(number)
        accuracy = PROBLEM.report(params, PROBLEM.epochs, 0)
        study.apply(Proposed(trial=number, config=params))
        study.apply(Report(trial=number, epoch=PROBLEM.epochs, val_accuracy=accuracy))
        study.apply(Finished(trial=number, epoch=PROBLEM.epochs))
    return study


def seconds(sampler: str, trials: int, rounds: int) -> list[float]:
    """Returns the seconds of the next proposals."""
    study, found = study_with(sampler, trials), []
    for number in range(trials, trials + rounds):
        started = time.perf_counter()
        study.propose(number)
        found.append(time.perf_counter() - started)
    return found


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 200, 1000])
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    print(f"{'sampler':10}", *(f"{f'{trials} trials':>14}" for trials in arguments.trials), " (ms)")
    rows: list[dict[str, Any]] = []
    for sampler in SAMPLERS:
        measured = {trials: seconds(sampler, trials, arguments.rounds) for trials in arguments.trials}
        rows += [{"sampler": sampler, "trials": trials, "seconds": each} for trials, each in measured.items()]
        print(f"{sampler:10}", *(f"{1000 * median(each):14.1f}" for each in measured.values()), flush=True)
    if arguments.json is not None:
        ratios = {f"seconds, {row['sampler']}, {row['trials']} trials": median(row["seconds"]) for row in rows}
        write_result(arguments.json, "proposal_time", torch.device("cpu"), arguments.rounds, rows, ratios)


if __name__ == "__main__":
    main()
