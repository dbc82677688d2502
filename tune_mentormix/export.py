"""The best configuration of a search as a file that stands on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from trainables.settings import DataSettings, Settings, TrialSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment import Experiment
from tune_mentormix.messages import describe
from tune_mentormix.settings import FORMAT, refuse_newer
from tune_mentormix.yaml_files import read_yaml, write_yaml

CONFIG_FILE = "best_config.yaml"


class ExportedConfig(Settings):
    """What it takes to train an exported configuration again."""

    config: TrialSettings
    data: DataSettings
    threads: int  # of torch on a CPU: another number may round differently
    fingerprint: str  # of the data
    labels: str  # which labels the validation accuracy was measured on


SECTIONS: dict[str, type[BaseModel]] = {"config": TrialSettings, "data": DataSettings}


def export_best(experiment: Experiment, out: Path) -> Path:
    """Writes `best_config.yaml` into the folder `out` and returns its path.

    Raises:
        RequestError: if no trial has reported yet, or the folder cannot be written.
    """
    best = experiment.best()
    if best is None:
        raise RequestError(f"{experiment.name} has no result to export yet: see status {experiment.name}")
    values: dict[str, Any] = {
        "format": FORMAT,
        "experiment": experiment.name,
        "search_state": experiment.state(),
        "trial": best.number,
        "trial_state": best.state,
        "val_accuracy": best.val_accuracy,
        "epoch": best.epoch,
        "split": "validation",
        "labels": experiment.labels_kind,
        "controls": {name: trial.val_accuracy for name, trial in experiment.controls().items()},
        "config": best.config,
        "data": {key: experiment.settings[key] for key in DataSettings.model_fields if key in experiment.settings},
        "fingerprint": experiment.settings["provenance"]["dataset"]["fingerprint"],
        "threads": max(1, int(experiment.settings["cpus_per_trial"])),
        "provenance": experiment.settings["provenance"],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(out / CONFIG_FILE, values)
    except OSError as error:
        raise RequestError(f"cannot write to {out}: {error.strerror} (--out)") from error
    return out / CONFIG_FILE


def read_exported(path: Path) -> ExportedConfig:
    """Reads an exported configuration.

    Args:
        path: the file, or the folder it was exported into.

    Raises:
        RequestError: if it is no such file, a newer version wrote it, or a value is not allowed.
    """
    document = read_yaml(path / CONFIG_FILE if path.is_dir() else path)
    refuse_newer(document)
    missing = [key for key in ExportedConfig.model_fields if key not in document.values]
    if missing:
        raise RequestError(f"{document.source} has no key {missing[0]!r}: it is no exported configuration")
    values = {key: value for key, value in document.values.items() if key in ExportedConfig.model_fields}
    try:
        return ExportedConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        section, *inner = first["loc"]
        model: type[BaseModel] = SECTIONS[str(section)] if inner else ExportedConfig
        place = document.place(*map(str, first["loc"]))
        raise RequestError(f"{describe(first | {'loc': tuple(inner) or (section,)}, model)} ({place})") from error
