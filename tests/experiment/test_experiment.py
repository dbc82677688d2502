from pathlib import Path
from typing import Any

import pytest

from tune_mentormix.cli.console import print_status
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import Failed, parse_event
from tune_mentormix.experiment.experiment import Experiment, list_experiments, read_experiment
from tune_mentormix.storage.journal import Journal
from tune_mentormix.storage.paths import SUBMISSIONS_FOLDER
from tune_mentormix.storage.yaml_files import write_yaml

CONFIG = {"mixup_alpha": 8.0, "epochs": 3}


def experiment_of(*events: dict[str, Any]) -> Experiment:
    experiment = Experiment(Path("results/a"), SearchSettings())
    for time, event in enumerate(events):
        experiment.apply(parse_event({"time": float(time), **event}))
    return experiment


def started(run: int = 1, num_samples: int = 4) -> dict[str, Any]:
    return {"event": "run_started", "run": run, "num_samples": num_samples, "rungs": []}


def proposed(trial: int, control: str | None = None, attempt: int = 1) -> dict[str, Any]:
    return {"event": "proposed", "trial": trial, "config": CONFIG, "control": control, "attempt": attempt}


def report(trial: int, epoch: int, accuracy: float | None, attempt: int = 1) -> dict[str, Any]:
    return {"event": "report", "trial": trial, "epoch": epoch, "val_accuracy": accuracy, "attempt": attempt}


def ended(trial: int, event: str = "finished") -> dict[str, Any]:
    return {"event": event, "trial": trial}


def test_counts_by_state_add_up_to_the_trials_asked_for() -> None:
    experiment = experiment_of(
        started(num_samples=7), proposed(0), ended(0), proposed(1), ended(1, "stopped"), proposed(2), proposed(3)
    )
    experiment.apply(Failed(trial=2, error="nan"))
    counts = experiment.counts()
    assert counts == {"pending": 3, "running": 1, "stopped_early": 1, "finished": 1, "failed": 1}
    assert sum(counts.values()) == 7


def test_the_best_is_by_the_last_epoch_of_trials_that_ran_to_the_end() -> None:
    experiment = experiment_of(
        started(),
        *(proposed(0), report(0, 1, 0.9), report(0, 3, 0.5), ended(0)),
        *(proposed(1), report(1, 1, 0.2), report(1, 3, 0.6), ended(1)),
        *(proposed(2), report(2, 1, 0.8), ended(2, "stopped")),
    )
    best = experiment.best()
    assert best is not None
    assert (best.number, best.val_accuracy, best.epoch) == (1, 0.6, 3)


def test_until_a_trial_ran_to_the_end_the_best_is_by_latest_reports() -> None:
    experiment = experiment_of(started(), proposed(0), report(0, 1, 0.4), proposed(1), report(1, 1, 0.3))
    best = experiment.best()
    assert best is not None
    assert best.number == 0


@pytest.mark.parametrize(("last", "is_named"), [(0.5, True), (0.6, False)])
def test_an_earlier_epoch_is_named_only_where_the_best_was_better_there(
    last: float, is_named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(experiment_of(started(), proposed(0), report(0, 2, 0.6), report(0, 3, last), ended(0)))
    assert ("its highest was 0.6000, at epoch 2" in capsys.readouterr().out) == is_named


def test_the_best_may_be_a_control_and_the_best_with_a_mentor_is_known_beside_it() -> None:
    experiment = experiment_of(
        started(),
        *(proposed(0, "plain"), report(0, 3, 0.9), ended(0)),
        *(proposed(1, "published"), report(1, 3, 0.5), ended(1)),
        *(proposed(2), report(2, 3, 0.4), ended(2)),
    )
    best, with_mentor = experiment.best(), experiment.best(with_mentor=True)
    assert best is not None
    assert with_mentor is not None
    assert (best.control, with_mentor.control) == ("plain", "published")
    assert [trial.number for trial in experiment.ranked_trials()] == [0]  # one configuration, three times
    assert {name: trial.val_accuracy for name, trial in experiment.controls().items()} == {
        "plain": 0.9,
        "published": 0.5,
    }


def test_an_epoch_run_again_counts_once_in_the_curve_and_twice_in_the_cost() -> None:
    experiment = experiment_of(
        started(),
        proposed(0),
        report(0, 1, 0.1),
        report(0, 2, 0.2),
        report(0, 2, 0.2, attempt=2),
        report(0, 3, 0.3, 2),
    )
    assert experiment.trials[0].curve == {1: 0.1, 2: 0.2, 3: 0.3}
    assert experiment.trials[0].record().restarts == 1
    assert experiment.epochs_run == 4


def test_what_a_killed_run_left_running_is_pending_for_the_next() -> None:
    events = [started(), proposed(0), ended(0), proposed(1), report(1, 1, 0.2)]
    experiment = experiment_of(*events, started(run=2))
    assert [trial.number for trial in experiment.unfinished()] == [1]
    assert experiment.counts()["running"] == 0
    experiment.apply(parse_event(proposed(1, attempt=2)))
    assert experiment.counts()["running"] == 1


def on_disk(storage: Path, name: str, settings: dict[str, Any], *events: dict[str, Any]) -> None:
    (storage / name).mkdir(parents=True)
    write_yaml(storage / name / "search.yaml", settings)
    journal = Journal(storage / name / "journal.jsonl")
    for event in events:
        journal.append(**event)


def test_experiments_are_read_from_their_folders(tmp_path: Path) -> None:
    on_disk(tmp_path, "b", {"format": 1}, started(num_samples=1), proposed(0), report(0, 1, 0.5), ended(0))
    on_disk(tmp_path, "a", {"format": 1})
    (tmp_path / "not-an-experiment").mkdir()
    assert [e.name for e in list_experiments(tmp_path)[0]] == ["a", "b"]
    status = read_experiment(tmp_path, "b").status()
    assert status.best is not None
    assert (status.state, status.best.val_accuracy) == ("finished", 0.5)
    assert read_experiment(tmp_path, "a").status().state == "interrupted"


def test_a_file_that_names_no_format_is_refused(tmp_path: Path) -> None:
    on_disk(tmp_path, "a", {"num_samples": 3})
    with pytest.raises(RequestError, match="names no format"):
        read_experiment(tmp_path, "a")


def test_what_a_newer_version_wrote_is_refused(tmp_path: Path) -> None:
    on_disk(tmp_path, "a", {"format": 2})
    with pytest.raises(RequestError, match=r"format 2, this version reads up to 1: upgrade"):
        read_experiment(tmp_path, "a")


@pytest.mark.parametrize("name", ["..", "../a", "a/b", "", ".hidden", "a b"])
def test_a_name_cannot_leave_the_storage_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="name must be up to 64 letters"):
        read_experiment(tmp_path, name)


def test_a_submitted_search_that_has_not_started_is_no_experiment_yet(tmp_path: Path) -> None:
    (tmp_path / SUBMISSIONS_FOLDER / "birds").mkdir(parents=True)
    seen = f"see jobs --storage {tmp_path}, and logs birds --storage {tmp_path}"
    with pytest.raises(RequestError, match=f"birds was submitted, and has not started to search yet: {seen}"):
        read_experiment(tmp_path, "birds")


def test_a_missing_experiment_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    on_disk(tmp_path, "mine", {"format": 1})
    with pytest.raises(RequestError, match=r"no experiment 'yours' .*there are: mine"):
        read_experiment(tmp_path, "yours")
