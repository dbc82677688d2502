"""The median stopping rule (Golovin et al. 2017, "Google Vizier"), as a fold over the journal.

A trial is stopped if its best accuracy so far is below the median of the other trials' running averages.
"""

from __future__ import annotations

from statistics import median

from tune_mentormix.journal import Event

LEAST_OTHERS = 4  # trials that came as far


class MedianRule:
    """Compares after every epoch from the grace period on; a decision once made stands."""

    def __init__(self, grace_period: int, epochs: int) -> None:
        """Compares after `grace_period` epochs and every later one below `epochs`."""
        self.epochs = [grace_period] if grace_period < epochs else []  # from here on, trials may be stopped
        self._grace_period = grace_period
        self._last = epochs
        self._controls: set[int] = set()
        self._stopped: set[int] = set()
        self._curves: dict[int, dict[int, float]] = {}
        self._averages: dict[int, dict[int, float]] = {}  # epoch → trial → average of its accuracies so far

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account, deciding as the live scheduler did."""
        if event["event"] == "proposed" and event.get("control"):
            self._controls.add(event["trial"])
        elif event["event"] == "report" and event["val_accuracy"] is not None:
            self.goes_on(event["trial"], event["epoch"], event["val_accuracy"])

    def goes_on(self, trial: int, epoch: int, accuracy: float) -> bool:
        """Notes a report and says whether the trial goes on."""
        curve = self._curves.setdefault(trial, {})
        if trial not in self._controls and epoch not in curve:
            curve[epoch] = accuracy
            at_epoch = self._averages.setdefault(epoch, {})
            others = list(at_epoch.values())
            at_epoch[trial] = sum(curve.values()) / len(curve)
            compares = self._grace_period <= epoch < self._last and len(others) >= LEAST_OTHERS
            if compares and max(curve.values()) < median(others):
                self._stopped.add(trial)
        return trial not in self._stopped

    def stopped(self, trial: int) -> bool:
        """Whether the rule stopped the trial."""
        return trial in self._stopped
