"""Measures how far the answer of a search is from the best, against the simplest search that is strong.

Contestants run on the same simulated workers (event-driven, an epoch takes one unit of time and 10 % of jitter), over
curves of real trials (`tabulate_curves.py`) and a closed form (`problems.py`). *Regret* is how far the true accuracy
of the answer, the finished trial with the highest last report, is below the best of the space, in points. It is
averaged over budgets of 4 to 32 full trials, spaced evenly on a logarithmic scale. The figure is the mean regret over
seeds divided by that of random search at full length whose first trial is the published setting: below 1 is better.
Over all problems it is the geometric mean. Intervals are 95 %, by a bootstrap over seeds, which are the same for all.

    python benchmarks/search_efficiency.py --runs FILE [--json FILE] [--only NAMES] [--problems NAMES]
        [--seeds 50] [--first-seed 0] [--workers 4] [--processes 1]

Every run is kept in the file `--runs` as a line, and not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contestants import OptunaAlone, Ours, Policy, Ray, hyperband
from efficiency_statistics import interval_text, mean_ranks, ratio_of_means, summary
from measurement import write_result
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from problems import CrossingCurves, Problem, tabulated
from rivals import Smac, SyneTune
from simulation import Contestant, simulate, truth_after

BUDGETS = tuple(round(float(budget), 1) for budget in np.geomspace(4, 32, 7))  # full trials
SHOWN = (8, 16, 22.6, 32)  # of these, regrets are compared one by one
LABELS = ("noisy", "clean")
BASIS = "random + published"
TUNED_ON = ("digits_40", "digits_60", "cifar10n_worse", "closed_form")
HELD_OUT = ("digits_pair_flip",)  # looked at once the policy was chosen
TOGETHER = "all tuned on"  # the row over these problems
FIGURE = "regret_over_random_plus_published"  # on noisy labels: of this project, and after a slash of the others
FIGURES_OF = {
    "": ("ours", TOGETHER),
    "/held_out": ("ours", HELD_OUT[0]),
    "/before": ("ours before", TOGETHER),
    "/ray": ("Ray OptunaSearch + ASHA", TOGETHER),
    "/ray_published": ("Ray OptunaSearch + ASHA, published first", TOGETHER),
    "/optuna": ("Optuna TPE + Hyperband", TOGETHER),
    "/optuna_gp": ("Optuna GP + Hyperband", TOGETHER),
    "/syne_tune": ("Syne Tune ASHA", TOGETHER),
    "/syne_tune_cqr": ("Syne Tune ASHA + CQR", TOGETHER),
    "/smac": ("SMAC3 multi-fidelity", TOGETHER),
}
BEFORE = Policy(controls=("published", "mixup", "plain"))  # the default until 2026-11


def sampler(kind: type[BaseSampler]) -> Callable[[int], BaseSampler]:
    """Returns what makes a sampler of Optuna from a seed."""
    return lambda seed: kind(seed=seed)  # type: ignore[call-arg]


BUILD: dict[str, Callable[[Problem, int], Contestant]] = {
    BASIS: lambda problem, seed: OptunaAlone(problem, seed, sampler(RandomSampler)),
    "Ray OptunaSearch + ASHA": Ray,
    "Ray OptunaSearch + ASHA, published first": lambda problem, seed: Ray(problem, seed, tries_published=True),
    "Optuna TPE + Hyperband": lambda problem, seed: OptunaAlone(
        problem, seed, sampler(TPESampler), hyperband(problem)
    ),
    "Optuna GP + Hyperband": lambda problem, seed: OptunaAlone(problem, seed, sampler(GPSampler), hyperband(problem)),
    "Syne Tune ASHA": lambda problem, seed: SyneTune(problem, seed, "ASHA"),
    "Syne Tune ASHA + CQR": lambda problem, seed: SyneTune(problem, seed, "ASHACQR"),
    "SMAC3 multi-fidelity": Smac,
    "ours before": lambda problem, seed: Ours(problem, seed, BEFORE),
    "ours": Ours,
}


@cache
def problem_of(name: str) -> Problem:
    """Returns a problem by its name."""
    return CrossingCurves() if name == CrossingCurves.name else tabulated(name)


def regrets(contestant: str, problem_name: str, seed: int, workers: int) -> list[list[float]]:
    """Returns the regrets of one search in points: for noisy and for clean labels, at each budget."""
    torch.set_num_threads(1)
    problem = problem_of(problem_name)
    epochs = round(max(BUDGETS) * problem.epochs)
    steps = simulate(BUILD[contestant](problem, seed), problem, workers, seed, epochs)
    truths = [truth_after(steps, budget * problem.epochs, problem.average) for budget in BUDGETS]
    return [[100 * (best - truth[kind]) for truth in truths] for kind, best in enumerate(problem.best)]


Key = tuple[str, str, int]  # contestant, problem, seed
Figures = dict[str, dict[str, float]]  # by kind of labels
Row = dict[str, Any]


class Runs:
    """The regrets of all searches, in a file of one line a run."""

    def __init__(self, path: Path) -> None:
        """Reads the file if there is one."""
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        entries = [json.loads(line) for line in lines]
        self._known = {(entry["contestant"], entry["problem"], entry["seed"]): entry["regrets"] for entry in entries}

    def measure(self, keys: Sequence[Key], workers: int, processes: int) -> None:
        """Runs those that are not known yet."""
        missing = [key for key in keys if key not in self._known]
        with ProcessPoolExecutor(processes) as pool, self._path.open("a", encoding="utf-8") as stream:
            running = {pool.submit(regrets, *key, workers): key for key in missing}
            for future in as_completed(running):
                contestant, problem, seed = key = running[future]
                self._known[key] = future.result()
                entry = {"contestant": contestant, "problem": problem, "seed": seed, "regrets": self._known[key]}
                stream.write(json.dumps(entry) + "\n")
                stream.flush()

    def of(self, contestant: str, problem: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Returns the regrets of a contestant: [seeds, labels, budgets]."""
        return np.array([self._known[contestant, problem, seed] for seed in seeds])


def ratio_to_basis(runs: Runs, contestant: str, problems: Sequence[str], seeds: Sequence[int]) -> Figures:
    """Returns the figure by kind of labels: over all these problems, the geometric mean."""
    own = [runs.of(contestant, problem, seeds) for problem in problems]
    bases = [runs.of(BASIS, problem, seeds) for problem in problems]
    return {
        label: ratio_of_means([each[:, kind] for each in own], [each[:, kind] for each in bases])
        for kind, label in enumerate(LABELS)
    }


def table(runs: Runs, contestants: Sequence[str], problems: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """Returns one row a contestant and problem, and one for the problems that were tuned on together."""
    together = [problem for problem in problems if problem in TUNED_ON]
    rows: list[Row] = []
    for problem in problems:
        ranks = ranks_of({name: runs.of(name, problem, seeds) for name in contestants})
        for name in contestants:
            own, basis = runs.of(name, problem, seeds), runs.of(BASIS, problem, seeds)
            row: Row = {"contestant": name, "problem": problem, "is_held_out": problem in HELD_OUT}
            row |= {f"ratio_{label}": each for label, each in ratio_to_basis(runs, name, [problem], seeds).items()}
            row["rank"] = ranks[name]
            for budget in SHOWN:
                place = BUDGETS.index(float(budget))
                for kind, label in enumerate(LABELS):
                    row[f"regret_{label}_{budget}"] = float(own[:, kind, place].mean())
                    difference = own[:, kind, place] - basis[:, kind, place]
                    row[f"regret_{label}_{budget}_minus_basis"] = summary(difference.tolist(), np.mean)
            rows.append(row)
    for name in contestants if len(together) > 1 else ():
        figures = ratio_to_basis(runs, name, together, seeds)
        rows.append({"contestant": name, "problem": TOGETHER} | {f"ratio_{k}": v for k, v in figures.items()})
    return rows


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """Returns the figure of each contestant that ran, by the names of `FIGURES_OF`."""
    by_name = {(row["contestant"], row["problem"]): row["ratio_noisy"]["value"] for row in rows}
    return {FIGURE + suffix: by_name[place] for suffix, place in FIGURES_OF.items() if place in by_name}


def ranks_of(regrets_of: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    """Returns the mean rank of each contestant by its mean regret on noisy labels; 1 is the best."""
    return mean_ranks({name: regrets[:, 0].mean(axis=1).tolist() for name, regrets in regrets_of.items()})


def print_table(rows: Sequence[Row], seeds: int) -> None:
    """Prints the figure and the paired differences at each budget."""
    print(f"mean regret by that of {BASIS}, {seeds} seeds [95 %]; points of regret minus its, on noisy labels")
    print(f"{'problem':18}{'contestant':42}{'noisy':>20}{'clean':>20}{'rank':>6}", *(f"{n:>24}" for n in SHOWN))
    for row in rows:
        cells = "".join(f"{interval_text(row[f'ratio_{label}']):>20}" for label in LABELS)
        rank = f"{row['rank']['value']:6.1f}" if "rank" in row else ""
        paired = (f"{interval_text(row[key]):>24}" for n in SHOWN if (key := f"regret_noisy_{n}_minus_basis") in row)
        print(f"{row['problem']:18}{row['contestant']:42}{cells}{rank}", *paired)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, required=True, help="where every run is kept")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--only", nargs="+", default=list(BUILD), help="names of contestants; the basis runs too")
    parser.add_argument("--problems", nargs="+", default=[*TUNED_ON, *HELD_OUT])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()

    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    contestants = list(dict.fromkeys([BASIS, *arguments.only]))
    runs = Runs(arguments.runs)
    keys = [(name, problem, seed) for name in contestants for problem in arguments.problems for seed in seeds]
    runs.measure(keys, arguments.workers, arguments.processes)
    rows = table(runs, contestants, arguments.problems, seeds)
    print_table(rows, arguments.seeds)
    if arguments.json is not None:
        write_result(arguments.json, "search_efficiency", torch.device("cpu"), arguments.seeds, rows, figures(rows))


if __name__ == "__main__":
    main()
