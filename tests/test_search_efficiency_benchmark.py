"""The simulated searches of the efficiency benchmark: what contestants are told, and what their figure means."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from optuna.samplers import RandomSampler, TPESampler

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import search_efficiency
from contestants import OptunaAlone, Ours, Policy, Ray, hyperband
from problems import CURVES, Accuracies, CrossingCurves, Problem, smoothed, tabulated
from search_efficiency import BASIS, BUDGETS, Runs, sampler
from simulation import Step, simulate, truth_after


@pytest.fixture(scope="module")
def problem() -> Problem:
    return CrossingCurves()


@pytest.fixture(scope="module", params=[CrossingCurves.name, *(path.stem for path in sorted(CURVES.glob("*.npz")))])
def each_problem(request: pytest.FixtureRequest) -> Problem:
    return CrossingCurves() if request.param == CrossingCurves.name else tabulated(request.param)


def test_a_full_length_search_of_one_worker_finishes_a_trial_every_so_many_epochs(problem: Problem) -> None:
    steps = simulate(OptunaAlone(problem, 0, sampler(RandomSampler)), problem, 1, 0, 5 * problem.epochs)
    assert steps
    assert all(step.epochs % problem.epochs == 0 for step in steps)
    assert steps[0].truth == problem.truth(problem.published)


@pytest.mark.parametrize("policy", [Policy(), Policy(sampler="random", controls=("published", "mixup", "plain"))])
def test_equal_seeds_give_equal_searches(each_problem: Problem, policy: Policy) -> None:
    first, second = (
        simulate(Ours(each_problem, 3, policy), each_problem, 4, 3, 6 * each_problem.epochs) for _ in range(2)
    )
    assert first == second


def test_equal_trials_of_a_search_report_the_same_and_others_have_luck_of_their_own(
    each_problem: Problem,
) -> None:
    params, last = each_problem.published, each_problem.epochs
    assert each_problem.report(params, last, 1) == each_problem.report(dict(params), last, 1)
    reports = {each_problem.report(params, last, seed) for seed in range(40)}
    assert len(reports) >= 2
    assert np.mean(list(reports)) == pytest.approx(each_problem.truth(params).noisy, abs=0.03)
    for baseline in ("mixup", "plain"):
        assert each_problem.truth(baseline).noisy <= each_problem.best.noisy
    assert each_problem.average.noisy < each_problem.truth(params).noisy <= each_problem.best.noisy


def test_what_chance_explains_of_a_bump_is_no_truth() -> None:
    generator = np.random.default_rng(0)
    axes = [np.linspace(0, 1, count) for count in (4, 5, 3)]
    numbers = np.stack([np.repeat(each.ravel(), 2) for each in np.meshgrid(*axes, indexing="ij")])
    surface = 0.6 - 0.2 * ((numbers - 0.5) ** 2).sum(axis=0)
    values = surface[:, None, None] + 0.02 * generator.standard_normal((len(surface), 3, 1))
    error = np.abs(smoothed(values, axes)[:, 0] - surface).mean()
    assert error < 0.7 * np.abs(values.mean(axis=1)[:, 0] - surface).mean()
    bumpy = surface + 0.05 * generator.standard_normal(len(surface))
    exact = smoothed(np.repeat(bumpy[:, None, None], 3, axis=1), axes)[:, 0]
    np.testing.assert_allclose(exact, bumpy)


def test_rays_trials_stop_at_its_own_rungs_and_may_begin_with_the_published_setting(problem: Problem) -> None:
    contestant = Ray(problem, 0, tries_published=True)
    good, bad = contestant.propose(), contestant.propose()
    assert good.params == problem.published
    assert contestant.report(good.number, 1, 0.9)
    assert not contestant.report(bad.number, 1, 0.1)


def test_optunas_pruner_is_asked_after_every_epoch(problem: Problem) -> None:
    contestant = OptunaAlone(problem, 0, sampler(TPESampler), hyperband(problem))
    simulate(contestant, problem, 4, 0, 12 * problem.epochs)
    states = {trial.state.name for trial in contestant._study.trials}
    assert {"COMPLETE", "PRUNED"} <= states


def test_no_rung_of_ours_lies_within_the_longest_burn_in(each_problem: Problem) -> None:
    assert Ours(each_problem, 0).rungs[0] > each_problem.longest_burn_in * each_problem.epochs


def test_the_answer_of_a_budget_is_the_one_that_was_known_then() -> None:
    steps = [Step(10, Accuracies(0.5, 0.6)), Step(20, Accuracies(0.7, 0.8)), Step(30, Accuracies(0.6, 0.7))]
    before = Accuracies(0.1, 0.1)
    assert truth_after(steps, 25, before) == Accuracies(0.7, 0.8)
    assert truth_after(steps, 5, before) == before


def test_runs_are_kept_and_the_basis_is_worth_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, keys = tmp_path / "runs.jsonl", [(BASIS, CrossingCurves.name, seed) for seed in (0, 1)]
    Runs(path).measure(keys, workers=4, processes=1)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(entry["contestant"], entry["problem"], entry["seed"]) for entry in entries} == set(keys)
    assert np.array(entries[0]["regrets"]).shape == (2, len(BUDGETS))
    monkeypatch.setattr(search_efficiency, "regrets", None)  # nothing is run again
    runs = Runs(path)
    runs.measure(keys, workers=4, processes=1)
    (row,) = search_efficiency.table(runs, [BASIS], [CrossingCurves.name], [0, 1])
    assert row["ratio_noisy"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_scripts_find_the_figure_by_its_name() -> None:
    assert {contestant for contestant, _ in search_efficiency.FIGURES_OF.values()} <= set(search_efficiency.BUILD)
    rows = [
        {"contestant": contestant, "problem": problem, "ratio_noisy": {"value": value}}
        for contestant, problem, value in [
            ("ours", search_efficiency.TOGETHER, 0.9),
            ("ours", "digits_pair_flip", 1.1),
            ("ours", "digits_40", 0.8),
            ("Ray OptunaSearch + ASHA", search_efficiency.TOGETHER, 1.6),
        ]
    ]
    assert search_efficiency.figures(rows) == {
        "regret_over_random_plus_published": 0.9,
        "regret_over_random_plus_published/held_out": 1.1,
        "regret_over_random_plus_published/ray": 1.6,
    }
