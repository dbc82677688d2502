"""Searches on a real local Ray with real Optuna, small enough to take seconds."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.searches import folder_of
from tune_mentormix.config.controls import published_row
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.checkpoints import newest_checkpoint
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.search import callbacks
from tune_mentormix.search.run import resume_search
from tune_mentormix.storage.journal import read_events
from tune_mentormix.storage.yaml_files import read_yaml, write_yaml

SearchRunner = Callable[..., Experiment]


def quiet(_experiment: Experiment) -> None:
    """Shows no progress."""


def events_of(experiment: Experiment, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(experiment.path / "journal.jsonl") if event["event"] == kind]


def test_a_search_runs_every_trial_asked_for_and_reports_every_epoch(finished_search: Experiment) -> None:
    status = read_experiment(finished_search.path.parent, "done").status()
    assert status.state == "finished"
    assert sum(status.trials.model_dump().values()) == status.num_samples == 5
    assert status.trials.finished + status.trials.stopped_early == 5
    for trial in finished_search.trials.values():
        assert list(trial.curve) == list(range(1, trial.epoch + 1))


def test_the_controls_run_first_and_to_the_end(finished_search: Experiment) -> None:
    trials = finished_search.trials
    names = [trials[number].control for number in range(len(trials))]
    first, plain = trials[0], finished_search.controls()["plain"]
    assert names[0] == "published"
    assert names.index("plain") < names.index(None)
    assert "mixup" not in names
    assert set(finished_search.status().controls) == {"published", "plain"}
    assert all(trial.state == "finished" for trial in trials.values() if trial.control)
    assert (first.config["mixup_alpha"], first.config["loss_p_percentile"], first.config["burn_in"]) == (8, 0.6, 10)
    assert (plain.config["mentor"], plain.config["mixup_alpha"]) == ("uniform", 0)


def test_the_published_setting_is_that_for_the_noise_rate_estimated_from_it(finished_search: Experiment) -> None:
    published = [trial for trial in finished_search.trials.values() if trial.control == "published"]
    noise = published[0].noise
    assert noise is not None
    nearest = min((0.2, 0.4, 0.6, 0.8), key=lambda row: abs(row - noise.rate))
    assert [published_row(trial.config) for trial in published] == list(dict.fromkeys([0.4, nearest]))
    assert finished_search.controls()["published"] is published[-1]


def test_each_trial_that_ran_to_its_end_has_an_estimate_of_the_noise(finished_search: Experiment) -> None:
    finished = {number for number, trial in finished_search.trials.items() if trial.state == "finished"}
    estimates = events_of(finished_search, "noise_estimated")
    assert {event["trial"] for event in estimates} == finished
    assert all(0 < event["noise"]["rate"] < 1 and event["epoch"] == 4 for event in estimates)


def test_the_request_is_written_with_all_it_depended_on(finished_search: Experiment) -> None:
    written = read_yaml(finished_search.path / "search.yaml").values
    assert (written["num_samples"], written["noise"], written["name"]) == (5, 0.4, "done")
    assert "mixup_alpha" in written["space"]
    assert written["gpus_per_trial"] == 0, "decided by what this machine has"
    facts = written["provenance"]
    assert {"ray", "optuna", "torch", "numpy", "python"} <= set(facts["versions"])
    assert len(facts["dataset"]["fingerprint"]) == 64
    assert facts["dataset"]["noise_rate"] == pytest.approx(0.4, abs=0.05)
    assert "commit" in facts


def test_what_is_known_of_the_wrong_labels_is_written(finished_search: Experiment) -> None:
    noise = json.loads((finished_search.path / "label_noise.json").read_text())
    matrix = np.array(noise["transition_matrix"])
    assert matrix.shape == (10, 10)
    assert matrix.sum(axis=1) == pytest.approx(1)
    assert 0.3 < noise["noise_rate"] < 0.5


def test_journal_lines_hold_what_scripts_rely_on(finished_search: Experiment) -> None:
    (started,) = events_of(finished_search, "run_started")
    (ended,) = events_of(finished_search, "run_ended")
    assert (started["run"], ended["reason"]) == (1, "finished")
    assert (started["cpus_per_trial"], started["gpus_per_trial"]) == (1, 0)
    report = events_of(finished_search, "report")[0]
    metrics = {"val_accuracy", "val_loss", "train_loss", "mean_weight", "epoch", "epoch_seconds", "images_per_second"}
    assert metrics | {"time", "event", "trial", "selected_clean_fraction"} <= set(report)
    last_epochs = [event for event in events_of(finished_search, "report") if event["epoch"] == 4]
    assert len(base64.b64decode(last_epochs[0]["val_correct"])) == -(-last_epochs[0]["val_images"] // 8)
    checkpoint = events_of(finished_search, "checkpoint")[-1]
    assert checkpoint["path"].startswith("runs/1/trial-")


def test_every_trial_can_be_watched_in_tensorboard(finished_search: Experiment) -> None:
    for number in finished_search.trials:
        (events,) = (folder_of(finished_search) / "runs" / "1" / f"trial-{number:04d}").glob("events.out.tfevents.*")
        assert b"ray/tune/val_accuracy" in events.read_bytes()


def test_checkpoints_are_found_newest_whole_first(finished_search: Experiment) -> None:
    trial = finished_search.trials[0]
    newest = newest_checkpoint(finished_search, trial)
    assert newest == str(finished_search.path / trial.checkpoints[-1][1])


def test_which_images_were_right_is_kept_at_rungs_and_the_last_epoch(finished_search: Experiment) -> None:
    for trial in finished_search.trials.values():
        assert set(trial.answers) == {epoch for epoch in trial.reports if epoch in (*finished_search.rungs, 4)}
        for epoch, accuracy in trial.curve.items():
            answers = trial.correct_answers(epoch)
            assert answers is None or answers.mean() == pytest.approx(accuracy)
    finished = finished_search.finished_trials()[0].correct_answers(4)
    assert finished is not None
    assert len(finished) == finished_search.provenance.dataset.validation_images


def test_a_search_with_very_many_validation_images_keeps_the_answers_in_files(
    run_search: SearchRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_search: Experiment
) -> None:
    monkeypatch.setattr(callbacks, "MAX_IMAGES_IN_JOURNAL", 10)
    run_search(tmp_path, name="large", num_samples=1)
    experiment = read_experiment(tmp_path, "large")
    report = events_of(experiment, "report")[-1]
    assert report["val_correct_file"] == "answers/trial-0000-attempt-1-epoch-0004.bits"
    assert "val_correct" not in report
    answers, expected = (each.trials[0].correct_answers(4) for each in (experiment, finished_search))
    assert answers is not None
    assert expected is not None
    assert answers.tolist() == expected.tolist()


@pytest.mark.slow
def test_a_search_out_of_time_reports_it_and_can_be_resumed(run_search: SearchRunner, tmp_path: Path) -> None:
    experiment = run_search(tmp_path, name="hasty", time_budget=0.5, epochs=200, num_samples=3)
    assert experiment.ended == "time_budget"
    assert experiment.state() == "interrupted"
    assert sum(experiment.counts().values()) == 3


def test_an_existing_name_is_refused_and_left_alone(
    run_search: SearchRunner, finished_search: Experiment, ray_session: None
) -> None:
    before = (finished_search.path / "journal.jsonl").read_bytes()
    with pytest.raises(RequestError, match="exists already"):
        run_search(finished_search.path.parent, name="done")
    assert (finished_search.path / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"cpus_per_trial": 64}, r"cpus_per_trial must be at most 2, .* got 64 \(--cpus-per-trial\)"),
        ({"gpus_per_trial": 1}, r"gpus_per_trial must be at most 0, .* got 1 \(--gpus-per-trial\)"),
        ({"device": "cuda"}, r"^device cuda needs a GPU, which no node has: use auto or cpu \(--device\)$"),
        ({"device": "mps"}, r"^device mps is not there: torch finds no Apple GPU .* \(--device\)$"),
        ({"space": "defalt"}, "did you mean 'default'"),
        ({"tracker": ["mlflow"]}, r"tracker mlflow is not installed: make install EXTRAS=mlflow, .* \(--tracker\)"),
        ({"trial": {"burn_in": 5}}, "burn_in is set for all trials, and by the space too"),
    ],
)
def test_what_cannot_run_creates_nothing(
    run_search: SearchRunner, tmp_path: Path, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        run_search(tmp_path / "storage", name="never", **options)
    assert not (tmp_path / "storage").exists()


def test_a_storage_that_cannot_be_written_is_refused(run_search: SearchRunner, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RequestError, match=r"cannot be written: .* \(--storage\)"):
        run_search(tmp_path / "file", name="never")


def test_fewer_trials_than_were_started_cannot_be_asked_for(finished_search: Experiment) -> None:
    with pytest.raises(RequestError, match="num_samples must be at least 5"):
        resume_search(finished_search.path.parent, "done", {"num_samples": 2}, quiet)


@pytest.fixture
def copied_search(finished_search: Experiment, tmp_path: Path) -> Experiment:
    """The finished search in another folder, as if it had been moved there; tests may change it."""
    shutil.copytree(folder_of(finished_search), tmp_path / "moved" / "done")
    return read_experiment(tmp_path / "moved", "done")


def test_a_finished_search_that_was_moved_is_extended_with_the_same_study(copied_search: Experiment) -> None:
    seen: list[int] = []
    extended = resume_search(
        copied_search.path.parent, "done", {"num_samples": 7}, lambda experiment: seen.append(experiment.epochs_run)
    )
    assert extended.status().num_samples == len(extended.trials) == 7
    assert [event["trial"] for event in events_of(extended, "proposed")] == list(range(7))
    assert len({json.dumps(trial.config) for trial in extended.trials.values()}) == 7
    assert seen == sorted(seen), "progress was shown while it ran"
    assert seen[-1] == extended.epochs_run


def test_a_torn_newest_checkpoint_is_passed_over(copied_search: Experiment) -> None:
    trial = copied_search.trials[0]
    newest = copied_search.path / trial.checkpoints[-1][1] / "trial.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert newest_checkpoint(copied_search, trial) == str(copied_search.path / trial.checkpoints[-2][1])


def test_the_checkpoint_of_another_trial_is_not_used(
    copied_search: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    trial, other = (copied_search.trials[number] for number in (0, 1))
    taken, given = (folder_of(copied_search) / of.checkpoints[-1][1] for of in (trial, other))
    shutil.rmtree(taken)
    shutil.copytree(given, taken)
    assert newest_checkpoint(copied_search, trial) == str(copied_search.path / trial.checkpoints[-2][1])
    assert f"it is the checkpoint of trial 1, epoch {other.epoch}, and should be of trial 0" in caplog.text


def test_a_search_whose_data_changed_is_not_resumed(copied_search: Experiment) -> None:
    written = read_yaml(copied_search.path / "search.yaml").values
    written["provenance"]["dataset"]["fingerprint"] = "that of other data"
    write_yaml(copied_search.path / "search.yaml", written)
    with pytest.raises(RequestError, match="data of done changed"):
        resume_search(copied_search.path.parent, "done", {"num_samples": 6}, quiet)
