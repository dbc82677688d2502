"""The simulated searches of the efficiency benchmark: what contestants are told, and what they cost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from contestants import FullLength, Ours, Ray, first_rung
from problems import CrossingCurves, Problem
from simulation import Budget, Step, epochs_until, simulate, truth_after

FOREVER = 2.0  # an accuracy that no trial reaches


@pytest.fixture(scope="module")
def problem() -> Problem:
    return CrossingCurves(15)


def test_a_full_length_search_of_one_worker_finishes_a_trial_every_so_many_epochs(problem: Problem) -> None:
    budget = 5 * problem.epochs
    steps = simulate(FullLength(problem, 0, "random"), problem, 1, 0, Budget(budget, budget, FOREVER))
    assert steps
    assert all(step.epochs % problem.epochs == 0 for step in steps)


def test_equal_seeds_give_equal_searches(problem: Problem) -> None:
    budget = Budget(6 * problem.epochs, 6 * problem.epochs, FOREVER)
    first, second = (simulate(Ours(problem, 3), problem, 4, 3, budget) for _ in range(2))
    assert first == second


def test_rays_optuna_search_takes_a_stopped_trial_for_a_complete_one_without_its_last_report(
    problem: Problem,
) -> None:
    contestant = Ray(problem, 0, grace_period=1)
    good, bad = contestant.propose(), contestant.propose()
    assert contestant.report(good.number, 1, 0.9)
    assert not contestant.report(bad.number, 1, 0.1)
    told = contestant.told(bad.number)
    assert told.state == TrialState.COMPLETE
    assert told.value == 0.1
    assert told.intermediate_values == {}


def test_no_rung_of_ours_lies_within_the_longest_burn_in() -> None:
    for burn_in in (5, 15, 30):
        problem = CrossingCurves(burn_in)
        assert first_rung(problem) > burn_in / 100 * problem.epochs


def test_the_first_answer_as_good_as_the_target_counts() -> None:
    steps = [Step(10, 0.5), Step(20, 0.7), Step(30, 0.6)]
    assert epochs_until(steps, 0.6) == 20
    assert epochs_until(steps, 0.8) is None
    assert truth_after(steps, 25, before=0.1) == 0.7
    assert truth_after(steps, 5, before=0.1) == 0.1
