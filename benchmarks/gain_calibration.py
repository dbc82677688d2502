"""Compares the gain that ten more trials are expected to bring with the one that they bring, over simulated searches.

A search of this project's default policy runs on the problems of `search_efficiency` with four workers. Whenever ten
more trials have ended, the expected gain is computed as the product does, and compared with how much better the true
accuracy of the answer is ten trials later. Rows, for each problem and for all: the mean of both, in points, with a
bootstrap interval over searches for the realised one; in how many cases the gain exceeds the value that it should
exceed in one of eight; and both means in the thirds of the predictions. The share of random candidates that
`results.expected_gain` simulates was chosen on seeds from 1000 on, without the held-out problem.

    python benchmarks/gain_calibration.py [--json FILE] [--seeds 40] [--first-seed 0] [--problems NAMES]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from contestants import Ours
from efficiency_statistics import summary
from measurement import write_result
from problems import Params, Problem
from search_efficiency import HELD_OUT, TUNED_ON, problem_of
from simulation import reports

from tune_mentormix.results.expected_gain import FURTHER_TRIALS, MIN_FINISHED, Known, predict_gain
from tune_mentormix.results.expected_gain import Params as Point

WORKERS = 4
LOOKS = 5  # predictions of a search: after 10, 20, … trials


class Case(NamedTuple):
    """A prediction, and what came of it, in points."""

    seed: int
    expected: float
    upper: float
    realised: float


class Search:
    """A search in progress, and what its trials have shown."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem = problem
        contestant = Ours(problem, seed)
        self._rungs = contestant.rungs
        self._reports = reports(contestant, problem, WORKERS, seed)
        self._observations: list[tuple[int, Point, float, float]] = []
        self._finished: list[Point] = []
        self._ended = 0
        self._best = -1.0, None  # type: tuple[float, int | None]
        self.answer = problem.average.noisy  # its true accuracy

    def run_until(self, ended: int) -> None:
        """Trains until so many trials have ended."""
        while self._ended < ended:
            report = next(self._reports)
            params, is_last = report.proposal.params, report.epoch == self._problem.epochs
            if not isinstance(params, str):
                self._learn(report.proposal.number, params, report.epoch, report.accuracy, is_last)
                self._ended += report.ends
            if is_last and report.accuracy > self._best[0]:
                self._best = report.accuracy, None if isinstance(params, str) else len(self._finished) - 1
                self.answer = self._problem.truth(params).noisy

    def known(self) -> Known:
        """Returns what the product reads from a journal."""
        finishing = len(self._finished) / max(1, self._ended)
        return Known(tuple(self._observations), tuple(self._finished), *self._best, finishing)

    def _learn(self, trial: int, params: Params, epoch: int, accuracy: float, is_last: bool) -> None:
        point = tuple((name, params[name]) for name in self._problem.space.distributions)
        if is_last:
            self._finished.append(point)
        if is_last or epoch in self._rungs:
            self._observations.append((trial, point, epoch / self._problem.epochs, accuracy))


def cases(problem: Problem, seed: int) -> list[Case]:
    """Returns the predictions of one search."""
    search, space = Search(problem, seed), tuple(problem.space.distributions.items())
    found = []
    for look in range(1, LOOKS + 1):
        search.run_until(look * FURTHER_TRIALS)
        known, before = search.known(), search.answer
        if len(known.finished) < MIN_FINISHED:
            continue
        gain = predict_gain(space, known, FURTHER_TRIALS)
        search.run_until((look + 1) * FURTHER_TRIALS)
        found.append(Case(seed, 100 * gain.mean, 100 * gain.upper, 100 * (search.answer - before)))
    return found


def row(name: str, found: list[Case], searches: int) -> dict[str, Any]:
    """Returns what the cases of a problem, or of several, show."""
    by_seed = [fmean(case.realised for case in found if case.seed == seed) for seed in {case.seed for case in found}]
    thirds = np.array_split(sorted(found, key=lambda case: case.expected), 3)
    return {
        "problem": name,
        "searches": searches,
        "predictions": len(found),
        "expected_mean": fmean(case.expected for case in found),
        "realised_mean": summary(by_seed, np.mean),
        "above_upper": fmean(case.realised > max(case.upper, 0.0) for case in found),
        "expected_by_third": [float(third[:, 1].mean()) for third in thirds],
        "realised_by_third": [float(third[:, 3].mean()) for third in thirds],
    }


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--problems", nargs="+", default=[*TUNED_ON, *HELD_OUT])
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    rows, together = [], []
    for name in arguments.problems:
        problem, found = problem_of(name), []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            found += cases(problem, seed)
        rows.append(row(name, found, arguments.seeds))
        together += [case._replace(seed=case.seed + 10_000 * len(rows)) for case in found]
    rows.append(row("all", together, arguments.seeds * len(arguments.problems)))
    for each in rows:
        realised = each["realised_mean"]
        thirds = [
            f"{a:.2f}→{b:.2f}" for a, b in zip(each["expected_by_third"], each["realised_by_third"], strict=True)
        ]
        print(
            f"{each['problem']:18}{each['predictions']:5} predictions: expected {each['expected_mean']:.2f}, "
            f"realised {realised['value']:.2f} [{realised['low']:.2f}, {realised['high']:.2f}]; above the eighth "
            f"{each['above_upper']:.1%}; thirds {', '.join(thirds)}",
            flush=True,
        )
    if arguments.json is not None:
        ratios = {f"{each['problem']}, above the value of one in eight": each["above_upper"] for each in rows}
        write_result(arguments.json, "gain_calibration", torch.device("cpu"), arguments.seeds, rows, ratios)


if __name__ == "__main__":
    main()
