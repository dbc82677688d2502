from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from trainables.settings import TrialSettings
from tune_mentormix.experiment import Trial
from tune_mentormix.space import load_space, parse_space
from tune_mentormix.study import SAMPLERS, SearchStudy

SPACE = parse_space(load_space("default"))


def proposed(number: int, params: dict[str, Any]) -> dict[str, Any]:
    return {"event": "proposed", "trial": number, "config": TrialSettings(**params).model_dump(), "control": None}


def report(number: int, epoch: int, accuracy: float | None) -> dict[str, Any]:
    return {"event": "report", "trial": number, "epoch": epoch, "val_accuracy": accuracy}


def run_live(study: SearchStudy, numbers: range) -> list[dict[str, Any]]:
    """Proposes trials and ends each in one of the ways a trial can end; returns the events."""
    events: list[dict[str, Any]] = []
    for number in numbers:
        params = study.propose(number)
        ends = [
            {"event": "finished", "trial": number},
            {"event": "stopped", "trial": number},
            {"event": "failed", "trial": number, "worker_lost": False},
            {"event": "failed", "trial": number, "worker_lost": True},
        ]
        accuracy = params["loss_p_percentile"]
        new = [
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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_replayed_study_is_the_live_one_and_proposes_the_same(sampler: str) -> None:
    live, replayed = SearchStudy(SPACE, sampler, seed=3), SearchStudy(SPACE, sampler, seed=3)
    for event in run_live(live, range(24)):
        replayed.apply(event)
    assert told(replayed) == told(live)
    assert replayed.propose(24) == live.propose(24)


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
    study.apply({"event": "finished", "trial": 0})
    assert study.study.trials == []


def test_a_baseline_is_none_of_optunas_though_its_values_lie_inside_the_space() -> None:
    study = SearchStudy(SPACE, "tpe", seed=0)
    config = TrialSettings(mentor="uniform").model_dump()
    assert SPACE.searched_values(config) is not None
    study.enter(Trial(0, config, "mixup"))
    study.apply(proposed(0, {"mentor": "uniform"}) | {"control": "mixup"})
    study.apply({"event": "finished", "trial": 0})
    assert study.study.trials == []


def test_a_trial_taken_up_again_keeps_its_parameters_and_its_curve() -> None:
    study = SearchStudy(SPACE, "tpe", seed=0)
    params: dict[str, Any] = {"mixup_alpha": 4.0, "loss_p_percentile": 0.5, "burn_in": 10.0, "second_reweight": True}
    study.apply(proposed(0, params))
    study.apply(report(0, 1, 0.5))
    study.enter(Trial(0, TrialSettings(**params).model_dump()))
    for event in (proposed(0, params), report(0, 2, 0.6), {"event": "finished", "trial": 0}):
        study.apply(event)
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
        study.apply({"event": "finished" if good else "failed", "trial": number, "worker_lost": False})
        late += [good] if number >= 40 else []
    assert sum(late) >= 16


def test_optuna_does_not_talk(capfd: pytest.CaptureFixture[str]) -> None:
    run_live(SearchStudy(SPACE, "tpe", seed=0), range(12))
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
