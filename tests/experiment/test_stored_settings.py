from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import resumed_settings
from tune_mentormix.experiment.events import RunStarted
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.storage.yaml_files import write_yaml


def written(storage: Path, **settings: object) -> Experiment:
    (storage / "birds").mkdir(exist_ok=True)
    write_yaml(storage / "birds" / "search.yaml", {"format": 1, **settings})
    return read_experiment(storage, "birds")


@pytest.fixture
def extended(tmp_path: Path) -> Experiment:
    """Asked for five trials, then extended to seven."""
    trials = {number: Trial(number, {}) for number in range(6)}
    experiment = written(tmp_path, num_samples=5)
    return replace(experiment, trials=trials, num_samples=7)


def test_a_resume_without_options_keeps_what_the_last_one_requested(extended: Experiment, tmp_path: Path) -> None:
    assert resumed_settings(extended, tmp_path, {"num_samples": None, "patience": None}).num_samples == 7
    assert resumed_settings(extended, tmp_path, {"num_samples": 9}).num_samples == 9


def test_no_trial_is_taken_back(extended: Experiment, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="num_samples must be at least 6, the trials started already, got 5"):
        resumed_settings(extended, tmp_path, {"num_samples": 5})


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("epochs", 12, "^epochs is 12 in .*search.yaml, but the search was started with 10: set it back"),
        ("seed", 1, "^seed is 1 in"),
        (
            "space",
            {"burn_in": {"low": 0, "high": 20}},
            r"^space\.burn_in\.high is 20 in .*, but the search was started with 30",
        ),
        ("scheduler", "none", "^scheduler is 'none' in"),
    ],
)
def test_a_search_whose_settings_were_edited_is_not_resumed(
    key: str, value: object, complaint: str, tmp_path: Path
) -> None:
    begun: dict[str, Any] = {"epochs": 10, "space": {"burn_in": {"low": 0, "high": 30}}}
    experiment = written(tmp_path, **begun)
    experiment.apply(RunStarted(settings=experiment.settings_record()))
    assert resumed_settings(experiment, tmp_path, {"num_samples": 30}).epochs == 10
    edited = written(tmp_path, **begun | {key: value})
    edited.started_with = experiment.started_with
    with pytest.raises(RequestError, match=complaint):
        resumed_settings(edited, tmp_path, {})


@pytest.mark.parametrize("scheduler", ["pbt", "hyperband", "median"])
def test_a_search_whose_scheduler_is_gone_is_not_resumed(scheduler: str, tmp_path: Path) -> None:
    experiment = written(tmp_path, num_samples=5, scheduler=scheduler)
    assert experiment.status().settings["scheduler"] == scheduler, "it can still be shown"
    with pytest.raises(
        RequestError, match=rf"^unknown scheduler '{scheduler}' \(known: asha, none\) \(search.yaml\)$"
    ):
        resumed_settings(experiment, tmp_path, {"num_samples": None})


def test_a_search_of_an_earlier_version_is_resumed_and_one_that_packed_trials_is_told_how(tmp_path: Path) -> None:
    assert resumed_settings(written(tmp_path, trials_per_gpu=None, gpus_per_trial=1.0), tmp_path, {}).gpus() == 1
    packed = written(tmp_path, trials_per_gpu=4, gpus_per_trial=None)
    assert packed.state() == "interrupted", "it can still be shown"
    with pytest.raises(RequestError, match=r"^trials_per_gpu is gone: set gpus_per_trial, .* \(search.yaml\)$"):
        resumed_settings(packed, tmp_path, {})
    assert resumed_settings(packed, tmp_path, {"gpus_per_trial": 0.25}).gpus() == 0.25


def test_a_search_whose_trials_held_several_gpus_is_shown_and_resumed_with_one(tmp_path: Path) -> None:
    greedy = written(tmp_path, gpus_per_trial=2.0)
    assert greedy.status().settings["gpus_per_trial"] == 2, "it can still be shown"
    with pytest.raises(RequestError, match=r"^gpus_per_trial: must be at most 1, .* got 2 \(search.yaml\)$"):
        resumed_settings(greedy, tmp_path, {})
    assert resumed_settings(greedy, tmp_path, {"gpus_per_trial": 1}).gpus() == 1


def test_a_search_of_another_version_is_shown_with_what_that_version_recorded(tmp_path: Path) -> None:
    provenance = {"commit": "abc", "driver": "new", "dataset": {"fingerprint": "f", "fold": 3}}
    read = written(tmp_path, num_samples=5, unheard_of=1, provenance=provenance)
    assert (read.settings.num_samples, read.settings.epochs) == (5, 60)
    assert (read.provenance.commit, read.provenance.host, read.labels_kind) == ("abc", "", "noisy")
    assert read.provenance.model_dump(exclude_unset=True) == provenance
    with pytest.raises(RequestError, match=r"^unknown key 'unheard_of' \(search.yaml\)$"):
        resumed_settings(read, tmp_path, {})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"num_samples": "many"}, r"^num_samples must be a whole number.*, got 'many' \(.*search.yaml, line 2\)$"),
        ({"provenance": "x"}, r"search.yaml is damaged: provenance must be a mapping .*, got 'x'"),
        (
            {"provenance": {"dataset": {"train_images": "few"}}},
            r"is damaged: provenance.dataset.train_images must be a whole number, got 'few'",
        ),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(damage: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=message):
        written(tmp_path, **damage)
