"""What a search cost: a fold over the journal, so that epochs run twice after an interruption count twice."""

from __future__ import annotations

from typing import Any

from tune_mentormix.experiment import Experiment
from tune_mentormix.journal import JOURNAL_FILE, Event, read_events

SECONDS_PER_HOUR = 3600.0


class Cost:
    """Training time by the trials' own clocks; starting workers and waiting are not in it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """`settings` as `search.yaml` holds them, with the resources of one trial."""
        self._cpus = float(settings.get("cpus_per_trial", 1.0))
        self._gpus = float(settings.get("gpus_per_trial") or 0.0)
        self.training_seconds = 0.0

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account."""
        if event["event"] == "report":
            self.training_seconds += event.get("epoch_seconds") or 0.0

    @property
    def cpu_hours(self) -> float:
        """CPU cores held by training, times hours."""
        return self.training_seconds * self._cpus / SECONDS_PER_HOUR

    @property
    def gpu_hours(self) -> float:
        """GPUs, or shares of them, held by training, times hours."""
        return self.training_seconds * self._gpus / SECONDS_PER_HOUR


def cost_of(experiment: Experiment) -> Cost:
    """Of all runs of the experiment so far."""
    cost = Cost(experiment.settings)
    journal = experiment.path / JOURNAL_FILE
    for event in read_events(journal) if journal.is_file() else ():
        cost.apply(event)
    return cost
