"""Makes a storage as searches leave it, to change files in: two searches, one of them confirmed and exported."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.searches import folder_of
from tests.support.simulated_search import CLASS_NAMES, START, SimulatedFailures, simulate_search
from trainables.data import load_dataset
from trainables.files import STATE_FILE, write_checkpoint
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, read_experiment
from tune_mentormix.export.write import export_best
from tune_mentormix.results.candidates import choose_candidates, confirmation_seeds
from tune_mentormix.results.confirmation import CONFIRMATION_FOLDER, REQUEST_FILE
from tune_mentormix.results.evaluation_log import record_evaluation, record_results
from tune_mentormix.results.label_quality import estimate_noise
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.yaml_files import read_yaml, write_yaml

EPOCHS, SEEDS, CLASSES = 4, 2, len(CLASS_NAMES)
NAMES = ("birds", "gulls")
FAILURES = SimulatedFailures({4: "val_loss is nan"}, restarted=(5,), unfinished=(6,))


def make_storage(folder: Path) -> Path:
    """Makes `results` and `best` in a folder, and returns the folder."""
    storage = folder / "results"
    for name, seed in zip(NAMES, (0, 1), strict=True):
        simulate_search(storage, name, 8, epochs=EPOCHS, seed=seed, failures=FAILURES, with_answers=seed == 1)
    export_best(read_experiment(storage, NAMES[0]), folder / "best")  # of data that are nowhere: nothing is trained
    for name in NAMES:
        _use_true_data(storage, name)
        _add_what_is_not_simulated(storage / name)
    _confirm(read_experiment(storage, NAMES[0]))
    return folder


def _use_true_data(storage: Path, name: str) -> None:
    """Lets the search have the data of its settings, so that a resume gets as far as the cluster."""
    record = read_yaml(storage / name / SEARCH_FILE).values
    dataset = load_dataset(read_experiment(storage, name).settings.data_settings())
    record["provenance"]["dataset"]["fingerprint"] = dataset.fingerprint
    write_yaml(storage / name / SEARCH_FILE, record)


def _add_what_is_not_simulated(folder: Path) -> None:
    """Adds the noise that two trials saw, and a checkpoint, which no network can read."""
    lines = (folder / JOURNAL_FILE).read_text().splitlines()
    random = np.random.default_rng(0)
    for number in (0, 1):
        probabilities = random.dirichlet(np.full(CLASSES, 0.1), 200)
        labels = np.where(random.random(200) < 0.6, probabilities.argmax(1), random.integers(0, CLASSES, 200))
        noise = estimate_noise(labels, probabilities)
        assert noise is not None
        event = {"time": START, "event": "noise_estimated", "trial": number, "epoch": EPOCHS}
        event |= {"noise": noise.model_dump()}
        last = next(at for at, line in enumerate(lines) if f'"finished", "trial": {number},' in line)
        lines.insert(last, json.dumps(event))
    path = "runs/1/trial-0000/checkpoint_000000"
    write_checkpoint(folder / path, {STATE_FILE: lambda file: file.write(b"no state")}, {"trial": 0, "epoch": EPOCHS})
    lines.insert(-1, json.dumps({"time": START, "event": "checkpoint", "trial": 0, "epoch": EPOCHS, "path": path}))
    (folder / JOURNAL_FILE).write_text("".join(f"{line}\n" for line in lines))


def _confirm(experiment: Experiment) -> None:
    """Writes a confirmation of two candidates that is over, with its evaluation on the test set."""
    folder = folder_of(experiment) / CONFIRMATION_FOLDER
    folder.mkdir()
    controls = {name: trial.config for name, trial in experiment.controls().items()}
    candidates = choose_candidates(experiment, controls, 2)
    seeds = confirmation_seeds(0, SEEDS)
    written = [asdict(candidate) for candidate in candidates]
    request = {"format": 1, "top_k": 2, "seeds": seeds, "searched": 8, "folds": 5, "candidates": written}
    write_yaml(folder / REQUEST_FILE, request)
    events: list[dict[str, Any]] = [{"event": "run_started", "run": 1, "num_samples": SEEDS * len(candidates)}]
    for run in range(SEEDS * len(candidates)):
        config = candidates[run % len(candidates)].config | {"seed": seeds[run // len(candidates)]}
        events.append({"event": "proposed", "trial": run, "config": config, "fold": run // len(candidates)})
        for epoch in range(1, EPOCHS + 1):
            accuracy = 0.5 + 0.01 * epoch + 0.003 * run
            events.append({"event": "report", "trial": run, "epoch": epoch, "val_accuracy": accuracy})
        events.append({"event": "finished", "trial": run})
    events.append({"event": "run_ended", "reason": "finished"})
    lines = (json.dumps({"time": 1.0 + number} | event) for number, event in enumerate(events))
    (folder / JOURNAL_FILE).write_text("".join(f"{line}\n" for line in lines))
    names = [candidate.name for candidate in candidates]
    evaluation = record_evaluation(folder, dict.fromkeys(names, sorted(seeds)), winner=names[-1], images=360)
    record_results(folder, evaluation, {name: dict.fromkeys(map(str, seeds), 0.9) for name in names})
