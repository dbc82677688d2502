"""Measures how much of a search's regret lies in choosing its answer among the finished trials, and what lessens it.

The highest of many reports is partly the luckiest. Searches of the default policy run on the problems of
`search_efficiency`, and after each budget the answer is chosen by some rule:

- the highest last report, as the product does;
- the highest mean of the posterior that the expected gain is computed from (`results.posterior`), which leaves out
  the luck of a single trial;
- repeats: the search ends `REPEATS` full trials earlier, and the best are trained again on further seeds;
- what `confirm` would then name, among the controls and the five with the highest reports or posterior means (its
  epochs are not counted);
- the best of the finished trials by their true accuracies, as a bound: no search knows these.

Figures are regrets as in `search_efficiency`, relative to the first rule, in pairs over seeds. Besides, it counts how
many full trials have as many epochs as the searches.

    python benchmarks/selection.py [--json FILE] [--seeds 50] [--first-seed 0] [--problems NAMES]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from contestants import Ours, Policy
from efficiency_statistics import interval_text, ratio_of_means
from measurement import write_result
from numpy.typing import NDArray
from problems import Accuracies, Problem
from search_efficiency import BUDGETS, HELD_OUT, LABELS, SHOWN, TUNED_ON, problem_of
from simulation import Reported, reports

from tune_mentormix.results.confirmation import SEEDS, TOP_K
from tune_mentormix.results.expected_gain import MIN_FINISHED
from tune_mentormix.results.posterior import Observation, Posterior

WORKERS = 4
REPEATED = (3, 2)  # so many of the best are trained once more, then of these
REPEATS = sum(REPEATED)
LENGTHS = (20, 35)  # of a search in trials, whose epochs are counted
CONTROLS = len(Policy().controls)
OTHER_SEED = 1_000_000  # of a repeat, beside the search's


class Search(NamedTuple):
    """A search, with its reports at the rungs and at the ends of trials."""

    problem: Problem
    seed: int
    reports: list[Reported]

    def finished(self, budget: float) -> list[Reported]:
        """Returns the last reports of the trials that ended in full within so many full trials' epochs."""
        return [each for each in self.until(budget) if each.epoch == self.problem.epochs]

    def until(self, budget: float) -> list[Reported]:
        """Returns the reports of so many full trials' epochs."""
        return [each for each in self.reports if each.spent <= budget * self.problem.epochs]

    def full_trials(self, trials: int) -> float:
        """Returns how many full trials have as many epochs as the first trials that ended."""
        return [each.spent for each in self.reports if each.ends][trials - 1] / self.problem.epochs

    def truth(self, answer: Reported | None) -> Accuracies:
        """Returns how good an answer is; without one, the average of the space."""
        return self.problem.average if answer is None else self.problem.truth(answer.proposal.params)


Rule = Callable[[Search, float], Accuracies]
Order = Callable[[Search, float], list[Reported]]


def run(problem: Problem, seed: int) -> Search:
    """Returns a search of the default policy."""
    contestant = Ours(problem, seed)
    shown = {*contestant.rungs, problem.epochs}
    all_reports = reports(contestant, problem, WORKERS, seed)
    epochs = round(max(BUDGETS) * problem.epochs)
    return Search(problem, seed, [each for each in islice(all_reports, epochs) if each.epoch in shown])


def highest_report(search: Search, budget: float) -> Accuracies:
    """The finished trial with the highest last report."""
    return search.truth(next(iter(by_report(search, budget)), None))


def highest_posterior_mean(search: Search, budget: float) -> Accuracies:
    """The finished trial whose accuracy is expected to be highest over all seeds."""
    return search.truth(next(iter(by_posterior_mean(search, budget)), None))


def by_report(search: Search, budget: float) -> list[Reported]:
    """Returns the finished trials, those with the highest last reports first."""
    return sorted(search.finished(budget), key=lambda each: each.accuracy, reverse=True)


def by_posterior_mean(search: Search, budget: float) -> list[Reported]:
    """Returns the finished trials but for the baselines, those that are expected to be best over all seeds first."""
    finished = [each for each in search.finished(budget) if not isinstance(each.proposal.params, str)]
    if len(finished) < MIN_FINISHED:
        return by_report(search, budget)
    known = [
        Observation(each.proposal.number, params, each.epoch / search.problem.epochs, each.accuracy)
        for each in search.until(budget)
        if not isinstance(params := each.proposal.params, str)
    ]
    posterior = Posterior(search.problem.space.distributions, known)
    means = posterior.mean([each.proposal.params for each in finished])  # type: ignore[misc]  # no baseline is in it
    return [finished[place] for place in np.argsort(-means, kind="stable")]


def repeats(search: Search, budget: float) -> Accuracies:
    """Trains the best again within the budget, and takes the one with the highest mean."""
    finished = search.finished(budget - REPEATS)
    if len(finished) < REPEATED[0]:
        return highest_report(search, budget)
    scores = {place: [each.accuracy] for place, each in enumerate(finished)}
    left = list(scores)
    for turn, kept in enumerate(REPEATED, 1):
        left = sorted(left, key=lambda place: float(np.mean(scores[place])), reverse=True)[:kept]
        for place in left:
            again = search.seed + turn * OTHER_SEED
            params = finished[place].proposal.params
            scores[place].append(search.problem.report(params, search.problem.epochs, again))
    return search.truth(finished[max(left, key=lambda place: float(np.mean(scores[place])))])


def confirmed(order: Order, search: Search, budget: float) -> Accuracies:
    """Takes the winner of a confirmation of the first `TOP_K` trials and the controls.

    Each is trained on `SEEDS` new seeds, as `confirm` does by default, but none is eliminated. The epochs of the
    confirmation are not counted.
    """
    trials = [each for each in order(search, budget) if not isinstance(each.proposal.params, str)][:TOP_K]
    trials += [each for each in search.finished(budget) if each.proposal.number < CONTROLS]

    def mean(trial: Reported) -> float:
        params, last = trial.proposal.params, search.problem.epochs
        new = (search.seed + seed * OTHER_SEED for seed in range(1, SEEDS + 1))
        return float(np.mean([search.problem.report(params, last, seed) for seed in new]))

    return search.truth(max(trials, key=mean, default=None))


def best_of_all(search: Search, budget: float) -> Accuracies:
    """The best of the finished trials on noisy labels."""
    truths = map(search.truth, search.finished(budget))
    return max(truths, key=lambda truth: truth.noisy, default=search.problem.average)


RULES: dict[str, Rule] = {
    "highest report": highest_report,
    "highest posterior mean": highest_posterior_mean,
    "repeats of the best": repeats,
    "confirmed, by report": partial(confirmed, by_report),
    "confirmed, by posterior mean": partial(confirmed, by_posterior_mean),
    "the best, if it were known": best_of_all,
}
BASIS = next(iter(RULES))
ALL = "all"
Regrets = NDArray[np.float64]  # [seeds, labels, budgets]


def regrets(rule: Rule, searches: Sequence[Search]) -> Regrets:
    """Returns the regrets in points."""
    return np.array([[_regret(search, rule(search, budget)) for budget in BUDGETS] for search in searches]).swapaxes(
        1, 2
    )


def _regret(search: Search, truth: Accuracies) -> list[float]:
    return [100 * (best - reached) for best, reached in zip(search.problem.best, truth, strict=True)]


def rows_of(found: dict[str, dict[str, Regrets]]) -> list[dict[str, Any]]:
    """Returns a row for each problem and rule, and one for each rule over all problems."""
    groups = {**{name: [name] for name in found}, ALL: list(found)}
    return [
        {"problem": group, "rule": rule}
        | {
            f"{label}_{title}": ratio_of_means(
                [found[each][rule][:, kind, budgets] for each in members],
                [found[each][BASIS][:, kind, budgets] for each in members],
            )
            for kind, label in enumerate(LABELS)
            for title, budgets in [("all", slice(None)), *((str(n), _only(n)) for n in SHOWN)]
        }
        for group, members in groups.items()
        for rule in RULES
    ]


def _only(budget: float) -> slice:
    place = BUDGETS.index(float(budget))
    return slice(place, place + 1)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--problems", nargs="+", default=[*TUNED_ON, *HELD_OUT])
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    found: dict[str, dict[str, Regrets]] = {}
    lengths: list[dict[str, Any]] = []
    for name in arguments.problems:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        searches = [*map(partial(run, problem_of(name)), seeds)]
        found[name] = {title: regrets(rule, searches) for title, rule in RULES.items()}
        means = {f"full_trials_of_{n}": fmean(search.full_trials(n) for search in searches) for n in LENGTHS}
        lengths.append({"problem": name, **means})
        print(f"{name}: the epochs of full trials", {n: round(value, 1) for n, value in means.items()})
    rows = rows_of(found)
    print(f"{'problem':18}{'rule':28}", *(f"{label + ' ' + n:>20}" for label in LABELS for n in ("all", "16", "32")))
    for row in rows:
        cells = (interval_text(row[f"{label}_{n}"]) for label in LABELS for n in ("all", "16", "32"))
        print(f"{row['problem']:18}{row['rule']:28}", *(f"{cell:>20}" for cell in cells))
    if arguments.json is not None:
        ratios = {
            f"{row['rule']}, {label} labels": row[f"{label}_all"]["value"]
            for row in rows
            for label in LABELS
            if row["problem"] == ALL
        }
        write_result(arguments.json, "selection", torch.device("cpu"), arguments.seeds, [*rows, *lengths], ratios)


if __name__ == "__main__":
    main()
