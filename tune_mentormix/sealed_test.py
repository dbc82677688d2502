"""Opens the test set for the winner of a confirmation and the controls, and writes down that it did."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import ray

from trainables.datasets import Dataset, load_test_split
from trainables.final_accuracy import final_accuracy
from tune_mentormix.config.settings import FORMAT, SearchSettings
from tune_mentormix.experiment.experiment import newest_checkpoint
from tune_mentormix.results.confirmation import SEALED_TEST_FILE, Candidate, Confirmation
from tune_mentormix.storage.yaml_files import write_atomically


def open_test_set(confirmation: Confirmation, winner: Candidate, settings: SearchSettings, dataset: Dataset) -> None:
    """Measures every run of the winner and the controls on the test split, and keeps the results.

    The opening is written down before anything is measured, so that one that was interrupted is on record too.

    Args:
        confirmation: complete.
        winner: chosen on validation.
        settings: of the search; the tasks get the resources of a trial.
        dataset: what the runs trained on.

    Raises:
        DatasetError: if the dataset has no test split; nothing is written then.
    """
    images, labels = load_test_split(settings.data_settings())
    compared = confirmation.compared(winner)
    opening: dict[str, Any] = {
        "opened": _now(),
        "winner": winner.name,
        "seeds": {candidate.name: sorted(confirmation.accuracies(candidate)) for candidate in compared},
        "split": "test",
        "labels": "clean",
        "images": len(labels),
        "trained_on": dataset.fingerprint,
    }
    confirmation.openings.append(opening)
    _write(confirmation)
    opening["results"] = _measure(confirmation, compared, settings, (dataset, images, labels))
    opening["measured"] = _now()
    _write(confirmation)


def _measure(
    confirmation: Confirmation, compared: list[Candidate], settings: SearchSettings, data: tuple[Any, Any, Any]
) -> dict[str, dict[str, float]]:
    """Accuracies by candidate and seed, each measured in a Ray task with the resources of a trial."""
    measure = ray.remote(num_cpus=settings.cpus_per_trial, num_gpus=settings.gpus())(final_accuracy)
    dataset, images, labels = (ray.put(part) for part in data)
    tasks = {
        candidate.name: {
            str(seed): measure.remote(
                run.config, dataset, newest_checkpoint(confirmation, run), images, labels, settings.threads()
            )
            for seed, run in confirmation.runs_of(candidate).items()
            if run.state == "finished"
        }
        for candidate in compared
    }
    return {name: {seed: ray.get(task) for seed, task in by_seed.items()} for name, by_seed in tasks.items()}


def _write(confirmation: Confirmation) -> None:
    record = {"format": FORMAT, "openings": confirmation.openings}
    write_atomically(confirmation.path / SEALED_TEST_FILE, json.dumps(record, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
