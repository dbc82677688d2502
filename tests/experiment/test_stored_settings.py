from pathlib import Path

import pytest

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import resumed_settings
from tune_mentormix.experiment.experiment import Experiment, Trial


@pytest.fixture
def extended(tmp_path: Path) -> Experiment:
    """Asked for five trials, then extended to seven."""
    trials = {number: Trial(number, {}) for number in range(6)}
    return Experiment(tmp_path / "birds", {"format": 1, "num_samples": 5}, trials=trials, num_samples=7)


def test_a_resume_that_says_nothing_keeps_what_the_last_one_asked_for(extended: Experiment, tmp_path: Path) -> None:
    assert resumed_settings(extended, tmp_path, {"num_samples": None, "patience": None}).num_samples == 7
    assert resumed_settings(extended, tmp_path, {"num_samples": 9}).num_samples == 9


def test_no_trial_is_taken_back(extended: Experiment, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="num_samples must be at least 6, the trials started already, got 5"):
        resumed_settings(extended, tmp_path, {"num_samples": 5})


@pytest.mark.parametrize("scheduler", ["pbt", "hyperband", "median"])
def test_a_search_whose_scheduler_is_gone_is_not_resumed(scheduler: str, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "birds", {"format": 1, "num_samples": 5, "scheduler": scheduler})
    with pytest.raises(
        RequestError, match=rf"^unknown scheduler '{scheduler}' \(known: asha, none\) \(search.yaml\)$"
    ):
        resumed_settings(experiment, tmp_path, {"num_samples": None})


def test_a_search_of_an_earlier_version_is_resumed_and_one_that_packed_trials_is_told_how(tmp_path: Path) -> None:
    old = {"format": 1, "num_samples": 5, "trials_per_gpu": None, "gpus_per_trial": 1.0}
    assert resumed_settings(Experiment(tmp_path / "birds", old), tmp_path, {}).gpus() == 1
    packed = Experiment(tmp_path / "birds", old | {"trials_per_gpu": 4, "gpus_per_trial": None})
    with pytest.raises(RequestError, match=r"^trials_per_gpu is gone: set gpus_per_trial, .* \(search.yaml\)$"):
        resumed_settings(packed, tmp_path, {})
    assert resumed_settings(packed, tmp_path, {"gpus_per_trial": 0.25}).gpus() == 0.25
