"""What a search cost: a fold over the journal, so that epochs run twice after an interruption count twice."""

from __future__ import annotations

from typing import Any

from tune_mentormix.experiment import Experiment
from tune_mentormix.storage.journal import JOURNAL_FILE, Event, read_events

SECONDS_PER_HOUR = 3600.0


class Cost:
    """Training time by the trials' own clocks; starting workers and waiting are not in it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """`settings` as `search.yaml` holds them: the resources of one trial where a run did not record its own."""
        self._settings = settings
        self._take_resources({})
        self.training_seconds = 0.0
        self.cpu_hours = 0.0  # CPU cores held by training, times hours
        self.gpu_hours = 0.0  # GPUs, or shares of them, held by training, times hours

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account; a resume may give trials other resources than before."""
        if event["event"] == "run_started":
            self._take_resources(event)
        elif event["event"] == "report":
            seconds = event.get("epoch_seconds") or 0.0
            self.training_seconds += seconds
            self.cpu_hours += seconds * self._cpus / SECONDS_PER_HOUR
            self.gpu_hours += seconds * self._gpus / SECONDS_PER_HOUR

    def _take_resources(self, run: dict[str, Any]) -> None:
        known = self._settings | run
        self._cpus = float(known.get("cpus_per_trial", 1.0))
        self._gpus = float(known.get("gpus_per_trial") or 0.0)


def cost_of(experiment: Experiment) -> Cost:
    """Of all runs of the experiment so far."""
    cost = Cost(experiment.settings)
    journal = experiment.path / JOURNAL_FILE
    for event in read_events(journal):
        cost.apply(event)
    return cost
