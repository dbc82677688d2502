"""Compares policies for the default search: variants of rungs, burn-in range, sampler and what Optuna learns.

Every variant searches the three problems of `search_efficiency` on simulated workers. All are held to the same target
for a seed, what 64 full-length random trials find in the space with burn-ins up to 30 % of training, so that a
variant which narrows the space pays for what it leaves out. The figure is epochs saved over those 64 trials, and the
regret, in points of accuracy against the best of that space, after 8 and 16 full-length trials' worth of epochs.
A search ends after 32 of them; one that has not matched by then counts as a ratio of 1.

    python benchmarks/search_policy.py [--json FILE] [--seeds 20] [--first-seed 1000] [--only NAME …] [--workers 4]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from contestants import Ours, first_rung
from efficiency_statistics import summary
from measurement import write_result
from optuna.samplers import TPESampler
from problems import Problem, problems_up_to
from scipy.stats import gmean
from search_efficiency import TRIALS, target_of
from simulation import Budget, epochs_until, simulate, truth_after

from tune_mentormix.experiment.events import Event, Finished, Stopped
from tune_mentormix.search import early_stopping as rungs
from tune_mentormix.search import study as samplers
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving, rung_epochs
from tune_mentormix.search.study import SearchStudy

WIDEST = 30.0  # percent
BUDGETS = (8, 16)  # full-length trials
MOST = 32  # full-length trials


@dataclass(frozen=True)
class Policy:
    """A policy that the default search could have."""

    burn_in: float = 15.0  # the longest, percent
    after: float = 0.15  # of a trial, from there to the first rung
    factor: float = 2.0
    spacing: float | None = None  # of the rungs; None: the factor
    least: int = 4  # trials at a rung before anyone is stopped
    tell_complete: bool = False  # that a stopped trial ended where it was stopped
    tpe: dict[str, Any] = field(default_factory=dict)  # options


POLICIES = {
    "shipped": Policy(),
    "burn-in to 10 %": Policy(burn_in=10),
    "burn-in to 20 %": Policy(burn_in=20),
    "burn-in to 30 %": Policy(burn_in=30),
    "first rung 5 % after burn-in": Policy(after=0.05),
    "factor 3": Policy(factor=3),
    "factor 4": Policy(factor=4),
    "rungs 1.5 times apart": Policy(spacing=1.5),
    "2 trials at a rung": Policy(least=2),
    "8 trials at a rung": Policy(least=8),
    "stopped trials told complete": Policy(tell_complete=True),
    "5 startup trials": Policy(tpe={"n_startup_trials": 5}),
    "20 startup trials": Policy(tpe={"n_startup_trials": 20}),
    "not multivariate": Policy(tpe={"multivariate": False}),
    "no constant liar": Policy(tpe={"constant_liar": False}),
    "grouped": Policy(tpe={"group": True}),
    "100 candidates": Policy(tpe={"n_ei_candidates": 100}),
}


class _ToldComplete(SearchStudy):
    """Tells Optuna COMPLETE with the last accuracy for a trial that was stopped, as Ray does."""

    def apply(self, event: Event) -> None:
        super().apply(Finished(trial=event.trial, epoch=event.epoch) if isinstance(event, Stopped) else event)


class _Variant(Ours):
    """Ours with another policy."""

    def __init__(self, problem: Problem, seed: int, policy: Policy) -> None:
        rungs.MIN_TRIALS_PER_RUNG = policy.least
        options = {"multivariate": True, "constant_liar": True} | policy.tpe
        samplers.SAMPLERS["tpe"] = lambda space, search_seed, seed: TPESampler(seed=seed, **options)
        self._tell_complete = policy.tell_complete
        epochs = rung_epochs(first_rung(problem, policy.after), policy.spacing or policy.factor, problem.epochs)
        super().__init__(problem, seed, "tpe", AsyncSuccessiveHalving(epochs, policy.factor))

    def _new_study(self, sampler: str, seed: int) -> SearchStudy:
        kind = _ToldComplete if self._tell_complete else SearchStudy
        return kind(self._problem.space, sampler, seed)


def measure(policy: Policy, wide: Problem, narrow: Problem, seeds: range, workers: int) -> dict[str, Any]:
    """One policy on one problem.

    Args:
        policy: to measure.
        wide: the problem over all burn-ins, which sets the target.
        narrow: the problem over the policy's.
        seeds: one search each.
        workers: that train at the same time.
    """
    saved = []
    regrets: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    for seed in seeds:
        target = target_of(wide, seed)
        until = Budget(max(BUDGETS) * wide.epochs, MOST * wide.epochs, target)
        steps = simulate(_Variant(narrow, seed, policy), narrow, workers, seed, until)
        epochs = epochs_until(steps, target)
        saved.append(TRIALS * wide.epochs / epochs if epochs is not None else 1.0)
        for budget, figures in regrets.items():
            figures.append(100 * (wide.best - truth_after(steps, budget * wide.epochs, narrow.average)))
    return {
        "problem": wide.name,
        "saved_geometric_mean": summary(saved, gmean),
        "matched": fmean(ratio > 1 for ratio in saved),
        **{f"regret_after_{budget}": summary(figures, np.mean) for budget, figures in regrets.items()},
    }


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--only", nargs="+", default=list(POLICIES), help="names of policies")
    arguments = parser.parse_args()

    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows = []
    for name in arguments.only:
        policy = POLICIES[name]
        pairs = zip(problems_up_to(WIDEST), problems_up_to(policy.burn_in), strict=True)
        for wide, narrow in pairs:
            row = {"policy": name, **measure(policy, wide, narrow, seeds, arguments.workers)}
            rows.append(row)
            cells = [row["saved_geometric_mean"], *(row[f"regret_after_{budget}"] for budget in BUDGETS)]
            figures = "".join(f"{cell['value']:7.2f} [{cell['low']:.2f}, {cell['high']:.2f}]" for cell in cells)
            print(f"{name:30}{wide.name:10}{row['matched']:6.0%}{figures}", flush=True)
    if arguments.json is not None:
        write_result(arguments.json, "search_policy", torch.device("cpu"), arguments.seeds, rows, {})


if __name__ == "__main__":
    main()
