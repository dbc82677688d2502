"""Asynchronous successive halving (ASHA, Li et al. 2020), rebuilt by replaying the journal.

No trial is stopped before `MIN_TRIALS_PER_RUNG` trials have reached a rung. Controls are neither stopped nor counted:
they are compared at the last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import PlacementGroupFactory
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_mentormix.experiment.events import Event, Proposed, Report

MIN_TRIALS_PER_RUNG = 4


class AsyncSuccessiveHalving:
    """The rungs of a search and what was decided at each; a decision once made stands."""

    def __init__(self, rungs: Sequence[int] = (), factor: float = 2.0, metric: str = "val_accuracy") -> None:
        """Stops all but the best 1 in `factor` after each of these epochs; without rungs, stops no trial.

        The best are those with the highest `metric`, by its name in the reports.
        """
        self.metric = metric
        self.rungs = list(rungs)
        self._factor = factor
        self._scores: dict[int, dict[int, float]] = {epoch: {} for epoch in rungs}
        self._controls: set[int] = set()
        self._stopped: set[int] = set()

    def apply(self, event: Event) -> None:
        """Handles one event of the journal, deciding as the live scheduler did."""
        if isinstance(event, Proposed) and event.control:
            self._controls.add(event.trial)
        elif isinstance(event, Report) and (score := event.score(self.metric)) is not None:
            self.record(event.trial, event.epoch, score)

    def record(self, trial: int, epoch: int, score: float) -> None:
        """Takes a report, and decides whether the trial stops if it is the trial's first one at a rung."""
        at_rung = self._scores.get(epoch)
        if at_rung is not None and trial not in at_rung and trial not in self._controls:
            at_rung[trial] = score
            better = sum(other > score for other in at_rung.values())
            if len(at_rung) >= MIN_TRIALS_PER_RUNG and better >= math.ceil(len(at_rung) / self._factor):
                self._stopped.add(trial)

    def is_stopped(self, trial: int) -> bool:
        """Whether the trial was stopped at a rung."""
        return trial in self._stopped


def rung_epochs(first: int, factor: float, epochs: int) -> list[int]:
    """`first`, `first · factor`, `first · factor²`, … below `epochs`."""
    rungs = []
    rung = float(first)
    while round(rung) < epochs:
        rungs.append(round(rung))
        rung *= factor
    return rungs


class EarlyStoppingScheduler(FIFOScheduler):
    """The scheduler that Ray sees: it stops the trials that ASHA stops."""

    def __init__(
        self, early_stopping: AsyncSuccessiveHalving, placement: Callable[[], PlacementGroupFactory | None]
    ) -> None:
        """`placement` returns what a trial takes and where, if it may not run on every node."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._early_stopping = early_stopping
        self._placement = placement

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Ray's hook: decides where a trial may run before it starts."""
        if (placement := self._placement()) is not None:
            trial.update_resources(placement)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's hook: stop or continue."""
        number = trial.config["trial"]
        if "failure" in result:
            return str(TrialScheduler.CONTINUE)
        self._early_stopping.record(number, result["epoch"], result[self._early_stopping.metric])
        stopped = self._early_stopping.is_stopped(number)
        return str(TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE)
