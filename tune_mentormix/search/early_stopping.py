"""Asynchronous successive halving (Li et al. 2020, "ASHA"), rebuilt by replaying the journal.

Nobody is stopped before `LEAST_AT_RUNG` trials stand at a rung. Controls are neither stopped nor counted: they are
compared with at the last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_mentormix.experiment.events import Event, Proposed, Report

LEAST_AT_RUNG = 4


class Rungs:
    """The rungs of a search and what was decided at each; a decision once made stands."""

    def __init__(self, epochs: Sequence[int] = (), factor: float = 2.0) -> None:
        """Rungs after these epochs, at each of which the best 1 in `factor` go on; without any, nobody is stopped."""
        self.epochs = list(epochs)
        self._factor = factor
        self._accuracies: dict[int, dict[int, float]] = {epoch: {} for epoch in epochs}
        self._controls: set[int] = set()
        self._stopped: set[int] = set()

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account, deciding as the live scheduler did."""
        if isinstance(event, Proposed) and event.control:
            self._controls.add(event.trial)
        elif isinstance(event, Report) and event.val_accuracy is not None:
            self.goes_on(event.trial, event.epoch, event.val_accuracy)

    def goes_on(self, trial: int, epoch: int, accuracy: float) -> bool:
        """Notes a report and says whether the trial goes on."""
        at_rung = self._accuracies.get(epoch)
        if at_rung is not None and trial not in at_rung and trial not in self._controls:
            at_rung[trial] = accuracy
            better = sum(other > accuracy for other in at_rung.values())
            if len(at_rung) >= LEAST_AT_RUNG and better >= math.ceil(len(at_rung) / self._factor):
                self._stopped.add(trial)
        return trial not in self._stopped

    def stopped(self, trial: int) -> bool:
        """Whether a rung stopped the trial."""
        return trial in self._stopped


def rung_epochs(first: int, factor: float, epochs: int) -> list[int]:
    """`first`, `first · factor`, `first · factor²`, … below `epochs`."""
    rungs = []
    rung = float(first)
    while round(rung) < epochs:
        rungs.append(round(rung))
        rung *= factor
    return rungs


class EarlyStopping(FIFOScheduler):
    """Asks the rungs at every report."""

    def __init__(self, rungs: Rungs) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rungs = rungs

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's hook: stop or continue."""
        if "failure" in result:
            return str(TrialScheduler.CONTINUE)
        goes_on = self._rungs.goes_on(trial.config["trial"], result["epoch"], result["val_accuracy"])
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)
