"""A whole search in seconds: closed-form learning curves in place of training; proposals, rungs and journal are real.

The curve of a configuration rises, faster without burn-in, and decays late where noise is memorised: with a high
percentile (many examples trusted) and little mixing. Its ceiling is highest near alpha 6 and percentile 0.55.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from trainables.settings import TrialSettings
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.search_space import load_space, parse_space
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import parse_event
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, read_experiment
from tune_mentormix.experiment.provenance import LABEL_NOISE_FILE
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving, rung_epochs
from tune_mentormix.search.study import SearchStudy
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.yaml_files import write_yaml

START = 1_760_000_000.0  # seconds since 1970
EPOCH_SECONDS = 4.0
NOISE_RATE = 0.39
IMAGES = 10_000  # of the validation split
CLASS_NAMES = ["aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry"]


@dataclass(frozen=True)
class SimulatedFailures:
    """Trials that end badly or are interrupted, by number."""

    failed: dict[int, str]
    restarted: tuple[int, ...] = ()
    unfinished: tuple[int, ...] = ()


NO_FAILURES = SimulatedFailures({})


def simulate_search(
    storage: Path,
    name: str,
    num_samples: int,
    epochs: int = 60,
    seed: int = 0,
    failures: SimulatedFailures = NO_FAILURES,
    with_answers: bool = False,
    **settings: Any,
) -> Experiment:
    """Writes an experiment's folder as a search of `num_samples` trials, two at a time, leaves it.

    `with_answers` journals which images were right, as version 0.1.0 did not.
    """
    asked = SearchSettings(
        name=name, space=load_space("default").values, epochs=epochs, num_samples=num_samples, seed=seed, noise=0.4,
        storage=storage, **settings,
    )  # fmt: skip
    folder = storage / name
    folder.mkdir(parents=True)
    write_yaml(folder / SEARCH_FILE, {"format": 1, **asked.model_dump(mode="json"), "provenance": _provenance(asked)})
    _write_label_noise(folder / LABEL_NOISE_FILE)
    events = _Simulation(asked, failures, with_answers).run()
    (folder / JOURNAL_FILE).write_text("".join(json.dumps(event) + "\n" for event in events))
    return read_experiment(storage, name)


class _Simulation:
    """Two workers that take turns, one epoch at a time."""

    def __init__(self, settings: SearchSettings, failures: SimulatedFailures, with_answers: bool) -> None:
        self._settings = settings
        self._with_answers = with_answers
        self._failures = failures
        self._space = parse_space(load_space("default"))
        self._study = SearchStudy(self._space, settings.sampler, settings.seed)
        self._early_stopping = AsyncSuccessiveHalving(
            rung_epochs(max(1, round(settings.epochs * 0.35)), 2, settings.epochs), 2
        )
        self._controls = list(control_configs(["published", "mixup", "plain"], len(CLASS_NAMES)).items())
        self._events: list[dict[str, Any]] = []
        self._time = START

    def run(self) -> list[dict[str, Any]]:
        """All events of the search."""
        samples = self._settings.num_samples
        self._record("run_started", run=1, num_samples=samples, rungs=self._early_stopping.rungs)
        workers: dict[int, _SimulatedTrial] = {}
        started = 0
        while workers or started < samples:
            while len(workers) < 2 and started < samples:
                workers[started] = self._start(started)
                started += 1
            self._time += EPOCH_SECONDS
            for number in list(workers):
                if self._advance(workers[number]):
                    del workers[number]
        reason = "interrupted" if self._failures.unfinished else "finished"
        self._record("run_ended", run=1, reason=reason)
        return self._events

    def _start(self, number: int) -> _SimulatedTrial:
        name, values = self._controls[number] if number < len(self._controls) else (None, None)
        params = values if values is not None else self._study.propose(number)
        common = self._settings.common_trial_settings()
        config = TrialSettings(**(common | params)).model_dump()
        self._record("proposed", trial=number, run=1, attempt=1, control=name, config=config)
        return _SimulatedTrial(number, config, np.random.default_rng([self._settings.seed, number]))

    def _advance(self, trial: _SimulatedTrial) -> bool:
        """One epoch; returns whether the worker is free again."""
        trial.epoch += 1
        number, epoch, half = trial.number, trial.epoch, self._settings.epochs // 2
        if number in self._failures.failed and epoch == half:
            self._record("failed", trial=number, error=self._failures.failed[number], worker_lost=False)
            return True
        attempt = 2 if number in self._failures.restarted and epoch >= half else 1
        metrics: dict[str, Any] = trial.metrics(self._settings.epochs)
        if self._with_answers and epoch in (*self._early_stopping.rungs, self._settings.epochs):
            metrics |= trial.answers(metrics["val_accuracy"])
        self._record("report", trial=number, attempt=attempt, epoch=epoch, **metrics)
        if number in self._failures.unfinished and epoch == half:
            return True
        if epoch == self._settings.epochs:
            self._record("finished", trial=number, epoch=epoch)
        elif self._early_stopping.is_stopped(number):
            self._record("stopped", trial=number, epoch=epoch)
        else:
            return False
        return True

    def _record(self, kind: str, **fields: Any) -> None:
        event = {"time": round(self._time, 3), "event": kind, **fields}
        self._events.append(event)
        self._study.apply(parse_event(event))
        self._early_stopping.apply(parse_event(event))


@dataclass
class _SimulatedTrial:
    """The closed form of one configuration's training."""

    number: int
    config: dict[str, Any]
    random: np.random.Generator
    epoch: int = 0

    def metrics(self, epochs: int) -> dict[str, float]:
        """A report of the present epoch; accuracies on noisy labels, so 0.6 is about the most."""
        done, config = self.epoch / epochs, self.config
        trusts_all = config["mentor"] == "uniform"
        percentile = 1.0 if trusts_all else config["loss_p_percentile"]
        alpha, burn_in = config["mixup_alpha"], config["burn_in"] / 100
        ceiling = 0.58 - 0.5 * (percentile - 0.55) ** 2 - 0.008 * log((alpha + 0.1) / 6) ** 2
        ceiling -= 0.02 * config["second_reweight"] + 0.2 * (burn_in - 0.1) ** 2
        memorised = 0.12 * max(0.0, percentile - 0.5) / (1 + 0.3 * alpha) * max(0.0, done - 0.4)
        rise = 1 - exp(-6 * done * (1.2 - burn_in))
        burning = trusts_all or done < burn_in
        return {
            "val_accuracy": round(max(0.1, (ceiling - memorised) * rise + self.random.normal(0, 0.008)), 4),
            "val_loss": 2.3 - rise,
            "train_loss": 2.3 - 1.2 * rise,
            "mean_weight": 1.0 if burning else percentile + self.random.normal(0, 0.02),
            "epoch_seconds": EPOCH_SECONDS,
            "images_per_second": 9_000.0,
            "selected_clean_fraction": 0.61 if burning else min(0.99, 0.7 + 0.3 * rise * (1.2 - percentile)),
        }

    def answers(self, accuracy: float) -> dict[str, Any]:
        """Which images were right: mostly those that are easy for all trials."""
        difficulty = np.random.default_rng(0).random(IMAGES) + 0.1 * np.random.default_rng(self.number).random(IMAGES)
        correct = np.zeros(IMAGES, np.bool_)
        correct[np.argsort(difficulty)[: round(accuracy * IMAGES)]] = True
        return {"val_images": IMAGES, "val_correct": base64.b64encode(np.packbits(correct).tobytes()).decode()}


def _provenance(settings: SearchSettings) -> dict[str, Any]:
    return {
        "started": "2025-10-09T08:53:20+00:00",
        "command": f"run_search.py search --name {settings.name}",
        "host": "worker-1",
        "platform": "Linux",
        "versions": {"tune-mentormix": "0.1.0", "python": "3.11.7", "torch": "2.15.0", "optuna": "5.0.0"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dataset": {
            "fingerprint": "f" * 64,
            "train_images": 40_000,
            "validation_images": IMAGES,
            "image_shape": [32, 32, 3],
            "classes": len(CLASS_NAMES),
            "validation_labels": settings.validation_labels,
            "noise_rate": NOISE_RATE,
        },
    }


def _write_label_noise(path: Path) -> None:
    kept = np.eye(len(CLASS_NAMES)) * (1 - NOISE_RATE)
    spread = (1 - np.eye(len(CLASS_NAMES))) * NOISE_RATE / (len(CLASS_NAMES) - 1)
    facts = {"split": "train", "class_names": CLASS_NAMES, "noise_rate": NOISE_RATE}
    path.write_text(json.dumps(facts | {"transition_matrix": (kept + spread).tolist()}))
