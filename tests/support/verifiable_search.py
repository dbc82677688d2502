"""A search whose labels mislead, without training: digits with pair-flip noise, and networks that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data import Dataset, load_named_dataset
from trainables.files import PROBABILITIES_FILE, STATE_FILE, write_checkpoint
from trainables.settings import TrialSettings
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.search_space import load_space
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, read_experiment
from tune_mentormix.experiment.provenance import LABEL_NOISE_FILE, Provenance, write_label_noise
from tune_mentormix.storage.journal import JOURNAL_FILE, Journal
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.yaml_files import write_yaml

EPOCHS, CLASSES = 4, 10
MISLED, RIGHT = 2, 3  # trials: the best on noisy labels, and the best on right ones


class Network(NamedTuple):
    """How a made-up network answers: the true class, else the given label, else any class, in these shares."""

    true: float
    given: float


NETWORKS = {0: Network(0.70, 0.3), 1: Network(0.50, 0.5), MISLED: Network(0.35, 0.9), RIGHT: Network(0.95, 0.0)}
CONTROLS = {0: "published", 1: "plain"}


def made_up_search(storage: Location, name: str = "misled", networks: dict[int, Network] = NETWORKS) -> Experiment:
    """Writes a finished search of these networks, by trial."""
    asked = SearchSettings.model_validate(
        {"name": name, "space": load_space("default").values, "epochs": EPOCHS, "num_samples": len(networks)}
        | {"noise": 0.4, "noise_kind": "pair_flip", "validation_fraction": 0.5, "max_images": 400, "storage": storage}
    )
    dataset, _ = load_named_dataset(asked.data_settings())
    folder = storage / name
    folder.mkdir(parents=True)
    provenance = Provenance.collect(dataset).model_dump(mode="json")
    write_yaml(folder / SEARCH_FILE, {"format": 1, **asked.model_dump(mode="json"), "provenance": provenance})
    write_label_noise(folder / LABEL_NOISE_FILE, dataset)
    journal = Journal(folder / JOURNAL_FILE)
    journal.append("run_started", run=1, num_samples=len(networks), rungs=[])
    for number, network in networks.items():
        _run_trial(journal, folder, asked, dataset, number, network)
    journal.append("run_ended", run=1, reason="finished")
    journal.close()
    return read_experiment(storage, name)


def right_labels(experiment: Experiment) -> dict[str, str]:
    """What a person who is always right would answer, by image."""
    dataset, names = load_named_dataset(experiment.settings.data_settings())
    assert dataset.validation_clean_labels is not None
    labels = dataset.validation_clean_labels.tolist()
    return {name: dataset.class_names[label] for name, label in zip(names.validation, labels, strict=True)}


def _run_trial(
    journal: Journal, folder: Location, asked: SearchSettings, dataset: Dataset, number: int, network: Network
) -> None:
    control = CONTROLS.get(number)
    values = control_configs(("published", "plain"), CLASSES)[control] if control in ("published", "plain") else {}
    params: dict[str, Any] = values or {"mixup_alpha": 1.0 + number}
    config = TrialSettings.model_validate(asked.common_trial_settings() | params).model_dump()
    probabilities = _answer(dataset, network, number)
    accuracy = float((probabilities.argmax(axis=1) == dataset.validation_labels).mean())
    journal.append("proposed", trial=number, run=1, attempt=1, control=control, config=config)
    for epoch in range(1, EPOCHS + 1):
        journal.append("report", trial=number, attempt=1, epoch=epoch, val_accuracy=accuracy, epoch_seconds=0.1)
    path = f"runs/1/trial-{number}/checkpoint_{EPOCHS:06d}"
    if isinstance(folder, Path):
        writers = {
            STATE_FILE: lambda file: file.write(b"no weights"),
            PROBABILITIES_FILE: lambda file: np.save(file, probabilities),
        }
        write_checkpoint(folder / path, writers, {"trial": number, "attempt": 1, "epoch": EPOCHS})
    journal.append("checkpoint", trial=number, epoch=EPOCHS, path=path)
    journal.append("finished", trial=number, epoch=EPOCHS)


def _answer(dataset: Dataset, network: Network, seed: int) -> NDArray[np.float16]:
    """Returns the probabilities [M, K] of a made-up network on the validation images."""
    generator = np.random.default_rng(seed)
    true, given = dataset.validation_clean_labels, dataset.validation_given_labels
    assert true is not None
    anything = generator.integers(0, CLASSES, len(given))
    otherwise = np.where(generator.random(len(given)) < network.given, given, anything)
    answers = np.where(generator.random(len(given)) < network.true, true, otherwise)
    probabilities = np.full((len(given), CLASSES), 0.3 / CLASSES)
    probabilities[np.arange(len(given)), answers] += 0.7
    return probabilities.astype(np.float16)
