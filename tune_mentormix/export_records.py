"""What an exported folder records: the configuration to train again, and where it and its weights come from."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from trainables.settings import DataSettings
from tune_mentormix.config.settings import FORMAT
from tune_mentormix.experiment.experiment import Cost, Experiment, Trial
from tune_mentormix.experiment.provenance import git_commit, package_versions
from tune_mentormix.exported_files import ModelRecord
from tune_mentormix.storage.journal import JOURNAL_FILE, read_events

# metric: split, and which labels; None: those of the validation split, which the experiment knows
MEASURED_ON: dict[str, tuple[str, str | None]] = {
    "val_accuracy": ("validation", None),
    "val_loss": ("validation", None),
    "train_loss": ("train", "noisy"),
    "mean_weight": ("train", "noisy"),
    "selected_clean_fraction": ("train", "clean"),
}


def config_record(experiment: Experiment, trial: Trial, confirmation: dict[str, Any] | None) -> dict[str, Any]:
    """What `best_config.yaml` holds: all that `train` needs, and what the search and its confirmation saw of it."""
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "search_state": experiment.state(),
        "trial": trial.number,
        "trial_state": trial.state,
        "val_accuracy": trial.val_accuracy,
        "epoch": trial.epoch,
        "split": "validation",
        "labels": experiment.labels_kind,
        "controls": {name: control.val_accuracy for name, control in experiment.controls().items()},
        "confirmation": confirmation,
        "config": trial.config,
        "data": {key: experiment.settings[key] for key in DataSettings.model_fields if key in experiment.settings},
        "fingerprint": experiment.settings["provenance"]["dataset"]["fingerprint"],
        "threads": max(1, int(experiment.settings["cpus_per_trial"])),
        "provenance": experiment.settings["provenance"],
    }


def search_record(
    experiment: Experiment,
    trial: Trial,
    confirmation: dict[str, Any] | None,
    model: ModelRecord | None,
    why_no_model: str | None,
) -> dict[str, Any]:
    """What `provenance.json` holds of a search and the trial taken from it, besides the files' digests."""
    settings, began = experiment.settings, experiment.settings["provenance"]
    return {
        "experiment": experiment.name,
        "search_state": experiment.state(),
        "trial": trial.number,
        "trial_state": trial.state,
        "control": trial.control,
        "chosen": how_confirmed(experiment, confirmation) if confirmation else how_chosen(experiment, trial),
        "confirmation": confirmation,
        "model": model and model.model_dump(),
        "why_no_model": why_no_model,
        "metrics": [
            *_trial_metrics(experiment, trial),
            *(
                {"control": name} | record
                for name, control in experiment.controls().items()
                for record in _trial_metrics(experiment, control)
            ),
        ],
        "dataset": {key: settings[key] for key in DataSettings.model_fields if key in settings} | began["dataset"],
        "seeds": {"trial": trial.config["seed"], "search": settings["seed"], "data": settings["data_seed"]},
        "compute": compute_record(experiment, trial),
        "search": {key: value for key, value in settings.items() if key != "provenance"},
        "trained_with": {key: began[key] for key in ("started", "command", "versions", "commit", "host", "platform")},
        "exported_with": exporter(),
    }


def how_chosen(experiment: Experiment, trial: Trial) -> str:
    """In words, who was compared with whom, on what."""
    on = f"accuracy on the {experiment.labels_kind} validation labels"
    if trial.state != "finished":
        return f"by the highest {on} at each trial's latest epoch so far: no trial had run to the end"
    finished = experiment.counts()["finished"]
    chosen = f"by the highest {on} at the last epoch, among {finished} trials that ran to the end"
    return chosen if experiment.state() == "finished" else f"{chosen}; the search was unfinished"


def how_confirmed(experiment: Experiment, confirmation: dict[str, Any]) -> str:
    """In words, who was compared with whom, on what."""
    on = f"accuracy on the {experiment.labels_kind} validation labels"
    ran = f"{confirmation['candidates']} configurations, controls among them"
    return f"by the highest mean {on} over {len(confirmation['seeds'])} fresh seeds, among {ran}"


def metric_records(metrics: Mapping[str, float | None], epoch: int, labels: str) -> list[dict[str, Any]]:
    """Each metric of an epoch with its split, and which labels it was measured on.

    Args:
        metrics: name → value; those that measure speed are left out.
        epoch: that they are of.
        labels: of the validation split, noisy or clean.
    """
    return [
        {"metric": name, "value": metrics[name], "split": split, "labels": kind or labels, "epoch": epoch}
        for name, (split, kind) in MEASURED_ON.items()
        if name in metrics
    ]


def compute_record(experiment: Experiment, trial: Trial) -> dict[str, Any]:
    """CPU-hours and GPU-hours of the whole search, and of this trial."""
    journal = experiment.path / JOURNAL_FILE
    whole, own = Cost(experiment.settings), Cost(experiment.settings)
    for event in read_events(journal):
        whole.apply(event)
        if event.get("trial", trial.number) == trial.number:  # those of no trial say what a run gives each
            own.apply(event)
    return {
        "counted": "seconds of every epoch, run twice or not, × cpus_per_trial, gpus_per_trial",
        "search": {"epochs": experiment.epochs_run, **_hours(whole)},
        "trial": {"epochs": trial.epoch, **_hours(own)},
    }


def _trial_metrics(experiment: Experiment, trial: Trial) -> list[dict[str, Any]]:
    return metric_records(trial.reports.get(trial.epoch, {}), trial.epoch, experiment.labels_kind)


def _hours(cost: Cost) -> dict[str, float]:
    return {"cpu_hours": round(cost.cpu_hours, 6), "gpu_hours": round(cost.gpu_hours, 6)}


def exporter() -> dict[str, Any]:
    """What wrote the record: when, with which versions, on what machine."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(),
        "commit": git_commit(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
    }
