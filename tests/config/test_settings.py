from pathlib import Path
from typing import get_args

import pytest

from trainables.settings import PRESETS
from tune_mentormix.config.settings import (
    PresetName,
    SearchSettings,
    default_name,
    parse_duration,
)
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import RequestError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "search.yaml"
    path.write_text(text)
    return path


def test_options_win_over_the_file(tmp_path: Path) -> None:
    config = write(tmp_path, "epochs: 7\nnum_samples: 3\n")
    settings = read_settings(config, {"epochs": 9, "num_samples": None})
    assert (settings.epochs, settings.num_samples) == (9, 3)


def test_an_experiments_own_file_is_a_settings_file(tmp_path: Path) -> None:
    config = write(tmp_path, "format: 1\nname: a\nprovenance: {commit: abc}\nspace: {burn_in: {low: 0, high: 9}}\n")
    assert read_settings(config, {}).space == {"burn_in": {"low": 0, "high": 9}}


def test_settings_survive_a_round_trip() -> None:
    settings = read_settings(None, {"name": "a", "time_budget": "30m", "epochs": 12})
    assert SearchSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_an_experiments_file_of_an_earlier_version_is_read_where_it_packed_no_trials(tmp_path: Path) -> None:
    assert read_settings(write(tmp_path, "trials_per_gpu: null\ngpus_per_trial: 1.0\n"), {}).gpus() == 1
    packed = write(tmp_path, "trials_per_gpu: 4\ngpus_per_trial: null\n")
    with pytest.raises(RequestError, match=r"^trials_per_gpu is gone: set gpus_per_trial, .* \(.*search.yaml\)$"):
        read_settings(packed, {})
    assert read_settings(packed, {"gpus_per_trial": 0.25}).gpus() == 0.25


def test_only_the_demonstration_adds_noise_unasked(tmp_path: Path) -> None:
    settings = read_settings(None, {})
    assert (settings.noise, settings.validation_fraction, settings.epochs, settings.num_samples) == (0.6, 0.5, 40, 40)
    assert read_settings(None, {"epochs": 7}).epochs == 7
    assert read_settings(None, {"dataset": "folder", "data_dir": str(tmp_path)}).noise == 0
    assert read_settings(None, {"noise": 0.0}).noise == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"dataset": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?"),
        ({"network": "small_cn"}, "unknown .*'small_cn'; did you mean 'small_cnn'"),
        ({"scheduler": "asah"}, "unknown scheduler 'asah'; did you mean 'asha'?"),
        ({"tracker": ["wand"]}, r"unknown tracker 'wand'; did you mean 'wandb'\? .* \(--tracker\)"),
        ({"noise": 1.0}, r"noise must be a number in \[0, 1\), got 1.0 \(--noise\)"),
        ({"noise": float("nan")}, r"noise must be a number in \[0, 1\), got nan"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"num_samples": 0}, r"num_samples must be a whole number of at least 1, got 0 \(--trials\)"),
        ({"cpus_per_trial": 0}, "cpus_per_trial must be a number of at least 0.0001, got 0"),
        ({"name": "../../x"}, "name: must be up to 64 letters"),
        ({"name": "a" * 65}, "name: must be up to 64 letters"),
        ({"time_budget": "soon"}, "time_budget: must be a duration like 90s, 30m or 2h, got 'soon'"),
        ({"epochs": 5, "grace_period": 6}, r"grace_period must be at most epochs \(5\), got 6"),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_what_is_allowed(
    options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        read_settings(None, options)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epochs: 5\nnum_sample: 3\n", r"unknown key 'num_sample'; did you mean 'num_samples'\? \(.*line 2\)"),
        ("noise: 1.7\n", r"noise must be a number in \[0, 1\), got 1.7 \(.*search.yaml, line 1\)"),
        ("format: 99\n", "format 99, this version reads up to 1: upgrade"),
    ],
)
def test_a_wrong_line_of_the_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        read_settings(write(tmp_path, text), {})


def test_settings_of_trials_may_stand_beside_those_of_the_search(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, "precision: fp32\nbatch_size: 32\ntrial: {mentor: focal}\n"), {})
    assert settings.trial == {"mentor": "focal", "precision": "fp32", "batch_size": 32}


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90", "90s", "1.5m", "2h", "1d")] == [90, 90, 90, 7200, 86400]


def test_any_other_setting_is_set_by_its_key() -> None:
    settings = read_settings(None, {"epochs": 5}, ["max_images=300", "batch_size=64", "mentor=focal", "epochs=6"])
    assert (settings.max_images, settings.epochs) == (300, 6)
    assert settings.trial == {"batch_size": 64, "mentor": "focal"}
    assert settings.common_trial_settings()["batch_size"] == 64


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("batch_sze=3", r"unknown key 'batch_sze'; did you mean 'batch_size'\? \(--set\)"),
        ("grace_perod=3", r"unknown key 'grace_perod'; did you mean 'grace_period'\? \(--set\)"),
        ("burn_in=200", r"burn_in must be a number in \[0, 100\), got 200 \(--set\)"),
        ("epochs=0", r"epochs must be a whole number of at least 1, got 0 \(--set\)"),
        ("epochs", "--set takes KEY=VALUE, got 'epochs'"),
        ("batch_size=[1", "--set batch_size is not YAML"),
        ("trial={seed: 3}", "seed is a setting of the search itself"),
        ("trial=[1]", "trial must be a mapping such as {key: value}"),
        ("seed=true", r"seed must be a whole number of at least 0, got true \(--set\)"),
        ("epochs=yes", "epochs must be a whole number of at least 1, got 'yes'"),
        ("epochs=1:30", "epochs must be a whole number of at least 1, got '1:30'"),
        ("epochs=" + "9" * 400, "epochs must be a whole number in \\[1, 1,000,000,000\\], got '9999"),
        ("tracker={wandb: 1}", "tracker must be one of wandb, mlflow, got {'wandb': 1}"),
        ("dataset=[digits]", r"dataset must be one of digits, .*, got \['digits'\]"),
        ("space=5", "space must be text or a mapping such as {key: value}, got 5"),
        ("first_trials=3", r"first_trials must be a list such as \[{key: value}\], got 3"),
        ("first_trials=[{a: 1}]", "first_trials: unknown key 'a'"),
        ("first_trials=[{mixup_alpha: -5}]", "first_trials: mixup_alpha must be a number of at least 0, got -5"),
        ("noise_map=[1]", r"noise_map must be a mapping such as {key: value}, got \[1\]"),
        ("time_budget=[1]", "time_budget must be a number above 0 or a duration such as 90s or 2h"),
        ("cpus_per_trial=1.0e-9", "cpus_per_trial must be a number of at least 0.0001, got 1e-09"),
        (
            "gpus_per_trial=1.5",
            r"^gpus_per_trial: must be at most 1, since a trial trains on one GPU, got 1.5 \(--set",
        ),
        (
            "gpus_per_trial=2",
            r"^gpus_per_trial: must be at most 1, since a trial trains on one GPU, got 2 \(--set\)$",
        ),
        ("gpus_per_trial=1e-7", "gpus_per_trial: must be 0, 1, or a fraction of at least 0.0001, got 1e-07"),
        ("device=gpu", r"unknown device 'gpu'; did you mean 'cpu'\? \(known: auto, cpu, cuda, mps\)"),
        ("image_size=100000", r"image_size must be a whole number in \[1, 4,096\], got 100000"),
        ("image_size=32", r"image_size is for datasets folder and hf/NAME only, got dataset digits \(the default\)"),
        ("data_dir=''", "data_dir: must be a path that a file can have, got ''"),
        ("data_dir=~nobody-here/x", "data_dir: must be a path, but there is no user 'nobody-here'"),
        ("cache_dir=~nobody-here/x", "cache_dir: must be a path, but there is no user"),
        ('data_dir="a\\0b"', "data_dir: must be a path that a file can have"),
        ("data_dir=" + "x" * 300, "data_dir: must be a path that a file can have, got .* of 300 characters"),
        ('storage="a\\0b"', "storage: must be a path that a file can have"),
    ],
)
def test_a_wrong_assignment_is_named(assignment: str, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        read_settings(None, {}, [assignment])


@pytest.mark.parametrize(
    ("device", "gpus", "complaint"),
    [
        ("cuda", 0, "^gpus_per_trial must be above 0 with device cuda, got 0"),
        ("cpu", 0.5, "^gpus_per_trial must be 0 with device cpu, got 0.5"),
        ("mps", 1, "^gpus_per_trial must be 0 with device mps, got 1"),
    ],
)
def test_a_device_that_does_not_fit_the_gpus_of_a_trial_is_refused(device: str, gpus: float, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        read_settings(None, {"device": device, "gpus_per_trial": gpus})


def test_what_yaml_bends_is_read_as_it_was_meant() -> None:
    settings = read_settings(None, {}, ["num_samples=010", "name=2021-01-01", "tracker=wandb"])
    assert (settings.num_samples, settings.name, settings.tracker) == (10, "2021-01-01", ["wandb"])


def test_a_label_file_needs_no_noise_to_be_unset(tmp_path: Path) -> None:
    assert read_settings(None, {"labels_file": tmp_path / "labels.csv"}).noise == 0


def test_a_preset_gives_way_to_what_is_set_besides() -> None:
    common = read_settings(None, {"preset": "reference"}, ["batch_size=64"]).common_trial_settings()
    assert (common["mixing"], common["batch_size"]) == ("hard", 64)
    assert set(get_args(PresetName)) == set(PRESETS)


@pytest.mark.parametrize("dataset", ["hf/parquet", "hf/owner/name", "my.data:load"])
def test_the_name_made_for_a_search_is_one_that_a_search_may_have(dataset: str, tmp_path: Path) -> None:
    data_dir = tmp_path if dataset == "hf/parquet" else None
    name = default_name(SearchSettings(dataset=dataset, data_dir=data_dir))
    assert SearchSettings(name=name).name == name
