from typing import Any, get_args

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from trainables.settings import TrialSettings
from tune_mentormix.config.search_space import SearchSpace, load_space, parse_space
from tune_mentormix.config.settings import SamplerName
from tune_mentormix.experiment.events import Event, Failed, Finished, Proposed, Report, Stopped
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.search.study import SAMPLERS, SearchStudy, SpaceTPESampler

SPACE = parse_space(load_space("default"))
GRID = parse_space(load_space("published"))


def space_for(sampler: str) -> SearchSpace:
    """A space that the sampler can search."""
    return GRID if sampler == "grid" else SPACE


def proposed(number: int, params: dict[str, Any]) -> Proposed:
    return Proposed(trial=number, config=TrialSettings(**params).model_dump())


def report(number: int, epoch: int, accuracy: float | None) -> Report:
    return Report(trial=number, epoch=epoch, val_accuracy=accuracy)


def run_live(study: SearchStudy, numbers: range) -> list[Event]:
    """Proposes trials and ends each in one of the ways a trial can end; returns the events."""
    events: list[Event] = []
    for number in numbers:
        params = study.propose(number)
        ends: list[Event] = [
            Finished(trial=number),
            Stopped(trial=number),
            Failed(trial=number, worker_lost=False),
            Failed(trial=number, worker_lost=True),
        ]
        accuracy = params["loss_p_percentile"]
        new: list[Event] = [
            proposed(number, params),
            report(number, 1, accuracy),
            report(number, 2, accuracy / 2),
            ends[number % 4],
        ]
        for event in new:
            study.apply(event)
        events += new
    return events


def told(study: SearchStudy) -> list[tuple[TrialState, float | None, dict[int, float], dict[str, Any]]]:
    return [(t.state, t.value, t.intermediate_values, t.params) for t in study.study.trials]


def test_every_sampler_that_can_be_set_exists() -> None:
    assert set(SAMPLERS) == set(get_args(SamplerName))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_replayed_study_is_the_live_one_and_proposes_the_same(sampler: str) -> None:
    space = space_for(sampler)
    live, replayed = SearchStudy(space, sampler, seed=3), SearchStudy(space, sampler, seed=3)
    for event in run_live(live, range(24)):
        replayed.apply(event)
    assert told(replayed) == told(live)
    assert replayed.propose(24) == live.propose(24)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_differ_lie_in_the_space_and_depend_on_the_seed_alone(sampler: str) -> None:
    space = space_for(sampler)
    runs = []
    for seed in (1, 1, 2):
        study = SearchStudy(space, sampler, seed)
        runs.append([event.config for event in run_live(study, range(16)) if isinstance(event, Proposed)])
    assert runs[0] == runs[1] != runs[2]
    assert all(space.searched_values(config) for config in runs[0])
    assert len({tuple(config.values()) for config in runs[0]}) == 16


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_parallel_proposals_differ(sampler: str) -> None:
    study = SearchStudy(space_for(sampler), sampler, seed=1)
    run_live(study, range(12))
    waiting = [tuple(study.propose(number).values()) for number in range(12, 16)]
    assert len(set(waiting)) == 4


def test_tpe_proposes_what_optunas_does() -> None:
    study = SearchStudy(SPACE, "tpe", seed=2)
    run_live(study, range(14))
    other = optuna.create_study(
        direction="maximize", sampler=TPESampler(seed=5, multivariate=True, constant_liar=True)
    )
    other.add_trials(study.study.trials)
    study.study.sampler = SpaceTPESampler(SPACE.distributions, 5)
    assert study.study.ask(SPACE.distributions).params == other.ask(SPACE.distributions).params


def test_a_grid_is_walked_once_and_then_exhausted() -> None:
    study = SearchStudy(GRID, "grid", seed=0)
    points: list[tuple[tuple[str, Any], ...]] = []
    while not study.is_exhausted:
        points.append(tuple(study.propose(len(points)).items()))
    assert len(points) == len(set(points)) == 3 * 7 * 2


def test_a_sampler_that_ignores_stopped_trials_hears_their_accuracy_as_final() -> None:
    study = SearchStudy(SPACE, "gp", seed=0)
    run_live(study, range(4))
    finished, stopped, failed, lost = study.study.trials
    assert [trial.state for trial in (finished, stopped, failed)] == [TrialState.COMPLETE] * 3
    assert stopped.value == stopped.intermediate_values[2]
    assert lost.state == TrialState.FAIL


def test_each_end_of_a_trial_is_told_as_what_it_is() -> None:
    study = SearchStudy(SPACE, "random", seed=0)
    run_live(study, range(4))
    finished, stopped, failed, lost = study.study.trials
    assert (finished.state, finished.value) == (TrialState.COMPLETE, finished.params["loss_p_percentile"] / 2)
    assert stopped.state == failed.state == TrialState.PRUNED
    assert sorted(stopped.intermediate_values) == [1, 2]
    assert lost.state == TrialState.FAIL


def test_a_trial_outside_the_space_is_none_of_optunas() -> None:
    study = SearchStudy(SPACE, "tpe", seed=0)
    study.apply(proposed(0, {"mixup_alpha": 0.0}))
    study.apply(report(0, 1, 0.5))
    study.apply(Finished(trial=0))
    assert study.study.trials == []


def test_a_baseline_is_none_of_optunas_though_its_values_lie_inside_the_space() -> None:
    study = SearchStudy(SPACE, "tpe", seed=0)
    config = TrialSettings(mentor="uniform").model_dump()
    assert SPACE.searched_values(config) is not None
    study.enqueue(Trial(0, config, "mixup"))
    study.apply(Proposed(trial=0, config=config, control="mixup"))
    study.apply(Finished(trial=0))
    assert study.study.trials == []


def test_a_retried_trial_keeps_its_parameters_and_its_curve() -> None:
    study = SearchStudy(SPACE, "tpe", seed=0)
    params: dict[str, Any] = {"mixup_alpha": 4.0, "loss_p_percentile": 0.5, "burn_in": 10.0, "second_reweight": True}
    study.apply(proposed(0, params))
    study.apply(report(0, 1, 0.5))
    study.enqueue(Trial(0, TrialSettings(**params).model_dump()))
    study.apply(proposed(0, params))
    study.apply(report(0, 2, 0.6))
    study.apply(Finished(trial=0))
    (trial,) = study.study.trials
    assert (trial.value, trial.intermediate_values) == (0.6, {1: 0.5, 2: 0.6})


def test_failures_turn_tpe_away_from_their_region() -> None:
    """Half of the range fails; after 40 trials, TPE proposes mostly from the other half."""
    study = SearchStudy(SPACE, "tpe", seed=1)
    late = []
    for number in range(60):
        params = study.propose(number)
        good = params["loss_p_percentile"] < 0.5
        study.apply(proposed(number, params))
        if good:
            study.apply(report(number, 1, 0.6))
        study.apply(Finished(trial=number) if good else Failed(trial=number))
        late += [good] if number >= 40 else []
    assert sum(late) >= 16


def test_optuna_does_not_talk(capfd: pytest.CaptureFixture[str]) -> None:
    run_live(SearchStudy(SPACE, "tpe", seed=0), range(12))
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
