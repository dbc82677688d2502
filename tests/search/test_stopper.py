"""Searches that end before their last trial, and the trials that hang."""

import errno
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.worker_processes import worker_processes
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError, SearchFailedError
from tune_mentormix.experiment.events import EventJournal, Failed, Finished, Proposed, Report, RunStarted
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.export.write import export_best
from tune_mentormix.results.expected_gain import MIN_FINISHED
from tune_mentormix.search.callbacks import TrialTimeout
from tune_mentormix.search.run import resume_search, start_search
from tune_mentormix.search.stopper import SearchStopper
from tune_mentormix.storage.journal import JOURNAL_FILE


def quiet(_experiment: Experiment) -> None:
    """Shows no progress."""


@pytest.mark.slow
def test_an_epoch_budget_ends_the_search_and_a_larger_one_continues_it_until_patience_ends_it(
    run_search: Callable[..., Experiment], tmp_path: Path
) -> None:
    space = {"mixup_alpha": {"choices": [2, 4, 8, 16]}}
    cut = run_search(
        tmp_path,
        name="cut",
        epoch_budget=6,
        patience=1,
        num_samples=30,
        sampler="grid",
        space=space,
        scheduler="none",
    )
    assert (cut.ended, cut.state(), cut.epochs_run) == ("epoch_budget", "interrupted", 6)
    ended = resume_search(tmp_path, "cut", {"epoch_budget": 500}, quiet)
    assert ended.ended in ("patience", "exhausted")
    assert ended.state() == "finished"
    assert len(ended.trials) < 30
    assert not ended.unfinished()


@pytest.mark.slow
def test_a_search_ends_once_further_trials_promise_too_little_and_goes_on_where_less_is_asked_for(
    run_search: Callable[..., Experiment], tmp_path: Path
) -> None:
    ended = run_search(tmp_path, name="gain", until_gain=100, num_samples=12, epochs=1, scheduler="none")
    assert (ended.ended, ended.state()) == ("until_gain", "finished")
    assert MIN_FINISHED < len(ended.trials) < 12
    assert not ended.unfinished()
    longer = resume_search(tmp_path, "gain", {"until_gain": 1e-9, "num_samples": len(ended.trials) + 1}, quiet)
    assert len(longer.trials) == len(ended.trials) + (longer.ended == "finished")


@pytest.mark.slow
def test_a_search_begins_with_what_an_earlier_one_or_its_export_found(
    finished_search: Experiment, run_search: Callable[..., Experiment], tmp_path: Path
) -> None:
    folder = export_best(finished_search, tmp_path / "best").folder
    best = finished_search.best()
    assert best is not None
    again = run_search(tmp_path / "a", name="again", start_from=str(folder), num_samples=4, epochs=1)
    assert again.trials[3].enqueued
    assert again.trials[3].control is None
    searched = ("mixup_alpha", "loss_p_percentile", "burn_in", "second_reweight")
    assert [again.trials[3].config[name] for name in searched] == [best.config[name] for name in searched]
    assert read_experiment(tmp_path / "a", "again").settings.first_trials


def test_what_lies_outside_the_space_is_no_start(
    finished_search: Experiment, run_search: Callable[..., Experiment], tmp_path: Path
) -> None:
    with pytest.raises(
        RequestError, match=r"nothing in .* lies in this search's space of mixup_alpha \(--start-from\)"
    ):
        run_search(tmp_path, start_from=str(finished_search.path), space={"mixup_alpha": {"low": 100, "high": 200}})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_and_the_search_continues(
    ray_session: None, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    hung: list[int] = []

    def stop_the_worker(experiment: Experiment) -> None:
        if experiment.epochs_run >= 2 and not hung:
            hung.append(experiment.unfinished()[0].number)
            worker_processes()[0].suspend()

    options: dict[str, Any] = {"epochs": 30, "num_samples": 2, "trial_timeout": "6s"}
    experiment = start_search(small_settings(tmp_path, name="hung", **options), stop_the_worker)
    (number,) = hung
    assert experiment.trials[number].state == "failed"
    assert "no report for 6 s (trial_timeout)" in (experiment.trials[number].error or "")
    assert experiment.counts()["finished"] == 1


def told(*events: Failed | Report, epochs: int = 4) -> Experiment:
    """An experiment of 20 trials after these events."""
    experiment = Experiment(Path("nowhere"), SearchSettings())
    experiment.apply(RunStarted(run=1, num_samples=20))
    for number in sorted({event.trial for event in events}):
        experiment.apply(Proposed(trial=number, config={}))
    for event in events:
        experiment.apply(event)
    return experiment


def stopper_of(experiment: Experiment, folder: Path, **settings: Any) -> SearchStopper:
    """The stopper of trials of 4 epochs."""
    return SearchStopper(
        experiment, EventJournal(folder / JOURNAL_FILE), SearchSettings(epochs=4, **settings), lambda _: None
    )


def failed(number: int) -> Failed:
    return Failed(trial=number, error="val_loss is nan")


def reported(number: int, epoch: int) -> Report:
    return Report(trial=number, epoch=epoch, val_accuracy=0.5)


def test_failures_beside_trials_that_get_ahead_end_no_search(tmp_path: Path) -> None:
    experiment = told(reported(3, 1))
    stopper = stopper_of(experiment, tmp_path)
    for number in (0, 1, 2):
        experiment.apply(Proposed(trial=number, config={}))
        experiment.apply(failed(number))
    assert not stopper.stop_all()


def test_failures_of_an_earlier_run_do_not_end_the_next(tmp_path: Path) -> None:
    experiment = told(failed(0), failed(1), failed(2))
    stopper = stopper_of(experiment, tmp_path)
    assert not stopper.stop_all()
    for number in (3, 4, 5):
        assert not stopper.stop_all()
        experiment.apply(Proposed(trial=number, config={}))
        experiment.apply(failed(number))
    assert stopper.stop_all()
    assert stopper.reason == "all_failing"


def test_a_budget_lets_a_trial_that_has_trained_write_its_last_checkpoint(tmp_path: Path) -> None:
    experiment = told(reported(0, 4))
    stopper = stopper_of(experiment, tmp_path, epoch_budget=1)
    stopper.update()
    assert (stopper.reason, stopper.stop_all()) == ("epoch_budget", False)
    experiment.apply(Finished(trial=0))
    assert stopper.stop_all()


def test_a_trial_that_waits_for_the_storage_does_not_hang(tmp_path: Path) -> None:
    experiment = told(reported(0, 1))
    experiment.path = tmp_path / "gone"
    trial = SimpleNamespace(config={"trial": 0}, status="RUNNING")
    with closing(EventJournal(tmp_path / JOURNAL_FILE)) as journal:
        journal.subscribe(experiment.apply)
        watch = TrialTimeout(journal, experiment, timeout=0.0)
        watch.on_trial_start(0, [trial], trial)
        watch.on_step_end(0, [trial])
    assert experiment.trials[0].state == "running"


@pytest.mark.slow
def test_what_this_machine_cannot_write_ends_the_search_in_one_line_and_it_can_be_resumed(
    ray_session: None, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    def run_out_of_room(experiment: Experiment) -> None:
        if experiment.epochs_run == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/ray")

    settings = small_settings(tmp_path, name="full", epochs=2, num_samples=2)
    with pytest.raises(
        SearchFailedError, match=r"could not continue: No space left on device \(/tmp/ray\)\. What was"
    ):
        start_search(settings, run_out_of_room)
    assert resume_search(tmp_path, "full", {}, quiet).counts()["finished"] == 2
