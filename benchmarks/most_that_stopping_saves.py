"""Bounds the epochs of any search that proposes as well as TPE and stops hopeless trials at a first rung.

On every problem of `search_efficiency.py`, for every seed, TPE proposes trials one after another and sees all of
their curves to the end, until its answer is truly as good as what 64 full-length random trials find. Only the trial
that is the answer is then charged in full, and the controls; every other one is charged the epochs up to the first
rung alone, as if it were known there that it would lose. No real rule can know that, nor does TPE learn as much from
trials that were stopped. So this is a bound, and not a contestant.

    python benchmarks/most_that_stopping_saves.py [--seeds 20] [--first-seed 3000]
"""

from __future__ import annotations

import argparse

from contestants import FullLength
from efficiency_statistics import summary
from problems import Problem
from search_efficiency import TRIALS, shipped_problems, target_of

FIRST_RUNG = 0.3  # of a trial, as the default search has it
CONTROLS = 3  # which run to the end


def trials_until_matched(problem: Problem, seed: int) -> int | None:
    """Counts the trials of TPE at full length, one worker; None where 64 do not suffice."""
    search, target = FullLength(problem, seed, "tpe"), target_of(problem, seed)
    best = -1.0, 0.0  # the last report of the answer so far, and how good it truly is
    for trials in range(1, TRIALS + 1):
        proposal = search.propose()
        reported = problem.report(proposal.params, problem.epochs, seed)
        search.report(proposal.number, problem.epochs, reported)
        best = max(best, (reported, problem.truth(proposal.params)))
        if best[1] >= target:
            return trials
    return None


def ratio(trials: int | None) -> float:
    """64 full-length trials over what these cost; 1 where they do not suffice."""
    return 1.0 if trials is None else TRIALS / (CONTROLS + 1 + FIRST_RUNG * (trials - 1))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=3000)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    ratios = {
        problem.name: [ratio(trials_until_matched(problem, seed)) for seed in seeds] for problem in shipped_problems()
    }
    ratios["all"] = [value for values in ratios.values() for value in values]
    for name, values in ratios.items():
        saved = summary(values)
        print(f"{name:12}{saved['value']:6.1f} [{saved['low']:.1f}, {saved['high']:.1f}]")


if __name__ == "__main__":
    main()
