"""A search sent to the service can be only what the server's own configuration allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.service.admission import NotAllowedError, admit, admit_changes
from tune_mentormix.service.settings import ServerSettings, read_server_settings

SERVER = ServerSettings.model_validate(
    {
        "storage": "/shared/results",
        "datasets": {"digits": [], "folder": ["/data/birds"]},
        "files": ["/data/labels.npy"],
        "max_trials": 50,
        "max_epochs": 100,
        "max_concurrent": 4,
        "max_time": "2h",
    }
)


def test_what_is_allowed_is_bounded_and_goes_to_the_servers_storage() -> None:
    asked = {"name": "a", "dataset": "folder", "data_dir": "/data/birds", "num_samples": "50", "wait_for_nodes": "1d"}
    settings = admit(asked, "ann", SERVER)
    assert settings.wait_for_nodes == 7200
    assert (settings.num_samples, settings.max_concurrent, settings.time_budget) == (50, 4, 7200.0)
    assert str(settings.storage) == "/shared/results"
    assert settings.address is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"storage": "/elsewhere"}, "storage is the server's to set"),
        ({"address": "http://other:8265"}, "address is the server's to set"),
        ({"cache_dir": "/root"}, "cache_dir is the server's to set"),
        ({"tracker": ["wandb"]}, "tracker is the server's to set"),
        ({"start_from": "/etc"}, "start_from is the server's to set"),
        ({"runtime_env": {"env_vars": {"A": "b"}}}, "unknown key 'runtime_env'"),
        ({"entrypoint": "sh"}, "unknown key 'entrypoint'"),
        ({"name": ""}, "name must be given"),
        ({"name": "../a"}, "name: must be up to 64 letters"),
        ({"dataset": "cifar10"}, "dataset must be one of digits, folder, got cifar10"),
        ({"dataset": "folder", "data_dir": "/etc"}, "data_dir must be one of /data/birds"),
        ({"dataset": "folder", "data_dir": "/data/birds/../../etc"}, "data_dir must be one of /data/birds"),
        ({"data_dir": "/etc"}, "data_dir must be one of none"),
        ({"trial": {"weights": "/etc/passwd"}}, "weights cannot be set through the service"),
        ({"space": {"weights": {"choices": ["/etc/passwd"]}}}, "weights cannot be set through the service"),
        ({"labels_file": "/etc/passwd", "noise": 0}, "labels_file must be one of /data/labels.npy"),
        ({"space": "/etc/passwd"}, "space must be one of default, finetune, published, wide"),
        ({"space": [None]}, "space must be one of default, finetune, published, wide"),
        ({"space": {"mixup_alpha": {"low": 4, "high": 2}}}, "low must be below high"),
        ({"num_samples": 51}, "num_samples must be at most 50 here, got 51"),
        ({"epochs": 101}, "epochs must be at most 100"),
        ({"max_concurrent": 5}, "max_concurrent must be at most 4"),
        ({"time_budget": "3h"}, "time_budget must be at most 7200"),
        ({"gpus_per_trial": 2}, "gpus_per_trial: must be at most 1"),
        ({"cpus_per_trial": 1000}, "cpus_per_trial must be at most 8"),
        ({"max_restarts": 10**6}, "max_restarts must be at most 5"),
        ({"num_samples": 10**400}, "num_samples must be"),
        ({"noise": float("nan")}, "noise must be"),
        ({"time_budget": 10**400}, "time_budget must be"),
    ],
)
def test_what_is_not_allowed_is_refused_in_words(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(NotAllowedError) as refused:
        admit({"name": "a"} | wrong, "ann", SERVER)
    assert said in str(refused.value)


def test_a_resume_is_bounded_like_a_new_search(simulated_storage: Path) -> None:
    experiment = read_experiment(simulated_storage, "birds")
    assert admit_changes(experiment, {"num_samples": 40}, SERVER)[1] == {
        "num_samples": 40,
        "max_concurrent": 4,
        "time_budget": 7200.0,
    }
    for wrong in (
        {"num_samples": 51},
        {"time_budget": "9h"},
        {"epochs": 3},
        {"storage": "/x"},
        {"dataset": "digits"},
    ):
        with pytest.raises(NotAllowedError):
            admit_changes(experiment, wrong, SERVER)


@pytest.mark.parametrize("most", [0.0, 0.25])
def test_a_fraction_of_a_gpu_is_the_maximum_where_a_search_sets_none(most: float, simulated_storage: Path) -> None:
    server = SERVER.model_copy(update={"max_gpus_per_trial": most})
    assert admit({"name": "a"}, "ann", server).gpus_per_trial == most
    experiment = read_experiment(simulated_storage, "birds")
    assert experiment.settings.gpus_per_trial is None
    assert admit_changes(experiment, {"num_samples": 40}, server)[1]["gpus_per_trial"] == most
    with pytest.raises(NotAllowedError, match="gpus_per_trial must be at most"):
        admit_changes(experiment, {"gpus_per_trial": 0.5}, server)
    assert admit({"name": "a", "gpus_per_trial": 0}, "ann", server).gpus_per_trial == 0
    assert admit({"name": "a"}, "ann", SERVER).gpus_per_trial is None, "a whole one is what it would get"


def test_a_device_is_admitted_if_the_server_has_it_for_trials() -> None:
    none = SERVER.model_copy(update={"max_gpus_per_trial": 0})
    assert admit({"name": "a", "device": "cuda"}, "ann", SERVER).device == "cuda"
    assert admit({"name": "a", "device": "cpu"}, "ann", none).gpus_per_trial is None, "no GPU is what it takes anyway"
    with pytest.raises(NotAllowedError, match=r"^device must be auto or cpu here, got cuda$"):
        admit({"name": "a", "device": "cuda"}, "ann", none)


def test_a_search_begun_elsewhere_on_other_data_is_not_gone_on_with(simulated_storage: Path) -> None:
    experiment = read_experiment(simulated_storage, "birds")
    experiment.settings = experiment.settings.model_copy(update={"dataset": "cifar10"})
    with pytest.raises(NotAllowedError, match="dataset must be one of"):
        admit_changes(experiment, {}, SERVER)


def test_a_wrong_configuration_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("max_trials: 10\nmax_time: soon\n")
    with pytest.raises(RequestError, match=r"max_time.*server.yaml, line 2"):
        read_server_settings(file, {})
    file.write_text("token: abc\n")
    with pytest.raises(RequestError, match="unknown key 'token'"):
        read_server_settings(file, {})
    file.write_text("max_trials: 10\n")
    assert read_server_settings(file, {"storage": "/x"}).max_trials == 10
