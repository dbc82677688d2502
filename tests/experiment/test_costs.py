"""What a search cost, from its events alone."""

from pathlib import Path

import pytest

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Event, Proposed, RunStarted, parse_event
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import ComputeUsage


def cost_of_events(*events: Event) -> ComputeUsage:
    experiment = Experiment(Path("results/a"), SearchSettings(cpus_per_trial=2.0))
    for event in (Proposed(trial=0, config={}), *events):
        experiment.apply(event)
    assert experiment.trials[0].usage == experiment.usage, "there is only one trial"
    return experiment.usage


def run_started(**resources: float) -> Event:
    return RunStarted(**resources)  # type: ignore[arg-type]


def epoch(seconds: float | None) -> Event:
    return parse_event({"event": "report", "trial": 0, "epoch": 1, "val_accuracy": 0.5, "epoch_seconds": seconds})


def test_each_epoch_costs_what_a_trial_had_in_its_own_run() -> None:
    cost = cost_of_events(
        run_started(cpus_per_trial=4.0, gpus_per_trial=0.5), epoch(3600), epoch(3600),
        run_started(cpus_per_trial=1.0, gpus_per_trial=2.0), epoch(3600),
    )  # fmt: skip
    assert cost.training_seconds == 3 * 3600
    assert (cost.cpu_hours, cost.gpu_hours) == pytest.approx((4 + 4 + 1, 0.5 + 0.5 + 2))


def test_a_run_that_recorded_no_resources_had_those_of_the_settings() -> None:
    cost = cost_of_events(
        run_started(cpus_per_trial=4.0, gpus_per_trial=1.0), epoch(3600), run_started(), epoch(3600)
    )
    assert (cost.cpu_hours, cost.gpu_hours) == pytest.approx((4 + 2, 1))


def test_an_epoch_of_unknown_length_costs_nothing() -> None:
    assert cost_of_events(run_started(), epoch(None)).cpu_hours == 0
