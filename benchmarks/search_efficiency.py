"""Measures how many epochs a search needs until it is as good as full-length random search with 64 trials.

Contestants run on the same simulated workers (event-driven, an epoch takes one unit of time and 10 % of jitter), over
curves of real trials on the digits at 40 and 60 % noise (`tabulate_curves.py`) and over a closed form with
crossings after burn-in (`problems.py`). For every seed the target is the true accuracy of the trial that 64
full-length random trials would pick. A search matches it when its own answer, the finished trial with the highest
last report, is truly as good; controls count as epochs. Who never matches within the epochs of those 64 trials is
censored there, which counts as a ratio of 1. True accuracy is the tabulated one at the end, or the closed form's
without noise.

    python benchmarks/search_efficiency.py [--json FILE] [--seeds 20] [--first-seed 0] [--workers 4]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from contestants import FullLength, Ours, Ray, random_with_ray_asha, ray_with_our_rungs
from efficiency_statistics import interquartile_mean, mean_ranks, summary
from measurement import write_result
from problems import Problem, problems_up_to
from simulation import Budget, Contestant, Step, epochs_until, simulate, truth_after

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.search.plan import check_request

TRIALS = 64  # of the full-length random search that sets the target
BUDGETS = (4, 6, 8, 12, 16)  # full-length trials, at which answers are compared
OURS, RANDOM, RAY, RAY_WITH_OUR_RUNGS = (
    "ours",
    "random, full length",
    "Ray OptunaSearch + ASHA",
    "the same, our rungs",
)

CONTESTANTS: dict[str, Callable[[Problem, int], Contestant]] = {
    RANDOM: lambda problem, seed: FullLength(problem, seed, "random"),
    "random + Ray ASHA": random_with_ray_asha,
    "TPE, full length": lambda problem, seed: FullLength(problem, seed, "tpe"),
    RAY: Ray,
    RAY_WITH_OUR_RUNGS: ray_with_our_rungs,
    OURS: Ours,
}


def shipped_problems() -> list[Problem]:
    """The three problems, over the burn-ins of the default space."""
    return problems_up_to(check_request(SearchSettings()).space.highest("burn_in", {}))


def target_of(problem: Problem, seed: int) -> float:
    """The true accuracy of the trial with the highest last report among 64 random ones, not those of a contestant."""
    search = FullLength(problem, int(np.random.SeedSequence([seed, 64]).generate_state(1)[0]), "random")
    trials = [search.propose().params for _ in range(TRIALS)]
    return problem.truth(max(trials, key=lambda params: problem.report(params, problem.epochs, seed)))


class Runs:
    """All searches of one contestant on one problem, one a seed."""

    def __init__(
        self,
        problem: Problem,
        build: Callable[[Problem, int], Contestant],
        seeds: range,
        workers: int,
        targets: list[float],
    ) -> None:
        """Runs them."""
        self._problem = problem
        self.budget = TRIALS * problem.epochs
        self._answers: list[list[Step]] = []
        self.matched: list[int | None] = []
        for seed, target in zip(seeds, targets, strict=True):
            until = Budget(max(BUDGETS) * problem.epochs, self.budget, target)
            self._answers.append(simulate(build(problem, seed), problem, workers, seed, until))
            self.matched.append(epochs_until(self._answers[-1], target))

    @property
    def epochs(self) -> list[int]:
        """Spent until the target was matched, censored at the budget."""
        return [self.budget if epochs is None else epochs for epochs in self.matched]

    @property
    def saved(self) -> list[float]:
        """Times fewer epochs than 64 full-length trials."""
        return [self.budget / epochs for epochs in self.epochs]

    def regrets(self, trials: int) -> list[float]:
        """Points below the best of the space after so many full-length trials' worth of epochs.

        While no trial has finished, the answer counts as an average configuration.
        """
        epochs = trials * self._problem.epochs
        truths = [truth_after(steps, epochs, self._problem.average) for steps in self._answers]
        return [100 * (self._problem.best - truth) for truth in truths]


def measure(problems: list[Problem], seeds: range, workers: int) -> dict[str, dict[str, Runs]]:
    """Contestant → problem → its runs."""
    targets = {problem.name: [target_of(problem, seed) for seed in seeds] for problem in problems}
    return {
        name: {problem.name: Runs(problem, build, seeds, workers, targets[problem.name]) for problem in problems}
        for name, build in CONTESTANTS.items()
    }


def table(runs: dict[str, dict[str, Runs]], workers: int) -> list[dict[str, Any]]:
    """One row a contestant and problem, and one for all problems together."""
    ranks = mean_ranks({name: [e for run in of.values() for e in run.epochs] for name, of in runs.items()})
    rows: list[dict[str, Any]] = []
    for name, of in runs.items():
        for problem, run in of.items():
            rows.append({"workers": workers, "contestant": name, "problem": problem, **_figures([run])})
        everything = {**_figures(list(of.values())), "mean_rank": ranks[name]}
        rows.append({"workers": workers, "contestant": name, "problem": "all", **everything})
    return rows


def _figures(runs: list[Runs]) -> dict[str, Any]:
    saved = [ratio for run in runs for ratio in run.saved]
    return {
        "saved_median": summary(saved),
        "saved_interquartile_mean": summary(saved, interquartile_mean),
        "matched": fmean(epochs is not None for run in runs for epochs in run.matched),
    }


def anytime(runs: dict[str, dict[str, Runs]], rival: str, workers: int) -> list[dict[str, Any]]:
    """Ours against a rival at a series of budgets: mean difference of regrets, in points; below 0 ours is better."""
    rows = []
    for problem, ours in runs[OURS].items():
        for budget in BUDGETS:
            pairs = zip(ours.regrets(budget), runs[rival][problem].regrets(budget), strict=True)
            difference = summary([mine - theirs for mine, theirs in pairs], np.mean)
            place = {"workers": workers, "rival": rival, "problem": problem, "budget_in_full_trials": budget}
            rows.append({**place, "regret": fmean(ours.regrets(budget)), "regret_difference": difference})
    return rows


def saved_over(runs: dict[str, dict[str, Runs]], rival: str) -> float:
    """The median over problems and seeds of a rival's epochs by ours, both censored at the budget."""
    ratios = [
        theirs / mine
        for problem, ours in runs[OURS].items()
        for mine, theirs in zip(ours.epochs, runs[rival][problem].epochs, strict=True)
    ]
    return float(np.median(ratios))


def print_tables(rows: list[dict[str, Any]], differences: list[dict[str, Any]], seeds: int) -> None:
    """Savings by contestant, and the anytime comparison."""
    print(f"times fewer epochs than {TRIALS} full-length random trials, until as good; {seeds} seeds a problem")
    print(
        f"{'workers':>7}  {'contestant':24}{'problem':10}{'median [95 %]':>24}{'IQM':>8}{'matched':>9}   rank [95 %]"
    )
    for row in rows:
        iqm = row["saved_interquartile_mean"]["value"]
        rank = _interval(row["mean_rank"]) if "mean_rank" in row else ""
        name = f"{row['workers']:7}  {row['contestant']:24}{row['problem']:10}"
        print(f"{name}{_interval(row['saved_median']):>24}{iqm:8.2f}{row['matched']:9.0%}   {rank}")
    print("\npoints of regret, ours minus the rival's (below 0: ours is better), mean [95 %]")
    for row in differences:
        if row["budget_in_full_trials"] == BUDGETS[0]:
            print(f"\n{row['workers']:7}  {row['rival']:24}{row['problem']:10}", end="")
        print(f"  {row['budget_in_full_trials']}: {_interval(row['regret_difference'])}", end="")
    print()


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def main() -> None:
    """Measure, print the tables, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 1], help="the ratios are of the first")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for workers in arguments.workers:
        runs = measure(shipped_problems(), seeds, workers)
        rows += table(runs, workers)
        for rival in (RAY, RAY_WITH_OUR_RUNGS):
            differences += anytime(runs, rival, workers)
        ratios = ratios or {
            "epochs_saved_over_full_random": float(np.median([x for run in runs[OURS].values() for x in run.saved])),
            "epochs_saved_over_ray_optuna_asha": saved_over(runs, RAY),
            "epochs_saved_over_ray_optuna_asha_with_our_rungs": saved_over(runs, RAY_WITH_OUR_RUNGS),
        }

    print_tables(rows, differences, arguments.seeds)
    if arguments.json is not None:
        device = torch.device("cpu")
        write_result(arguments.json, "search_efficiency", device, arguments.seeds, rows + differences, ratios)


if __name__ == "__main__":
    main()
