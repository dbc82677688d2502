"""Searches that end before their last trial, and the trials that hang."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.worker_processes import worker_processes
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment import Experiment, read_experiment
from tune_mentormix.export import export_best
from tune_mentormix.search import resume_search, start_search
from tune_mentormix.settings import SearchSettings


def quiet(_experiment: Experiment) -> None:
    """Shows no progress."""


def test_an_epoch_budget_ends_the_search_and_a_larger_one_goes_on_until_patience_does(
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


def test_a_search_begins_with_what_an_earlier_one_or_its_export_found(
    finished_search: Experiment, run_search: Callable[..., Experiment], tmp_path: Path
) -> None:
    folder = export_best(finished_search, tmp_path / "best").folder
    best = finished_search.best()
    assert best is not None
    again = run_search(tmp_path / "a", name="again", start_from=str(folder), num_samples=4, epochs=1)
    assert again.trials[3].given
    assert again.trials[3].control is None
    searched = ("mixup_alpha", "loss_p_percentile", "burn_in", "second_reweight")
    assert [again.trials[3].config[name] for name in searched] == [best.config[name] for name in searched]
    assert read_experiment(tmp_path / "a", "again").settings["first_trials"]


def test_what_lies_outside_the_space_is_no_start(
    finished_search: Experiment, run_search: Callable[..., Experiment], tmp_path: Path
) -> None:
    with pytest.raises(
        RequestError, match=r"nothing in .* lies in this search's space of mixup_alpha \(--start-from\)"
    ):
        run_search(tmp_path, start_from=str(finished_search.path), space={"mixup_alpha": {"low": 100, "high": 200}})
    assert not list(tmp_path.iterdir())


def test_a_trial_that_hangs_is_ended_and_the_search_goes_on(
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
