"""When a search ends before its last trial: interrupted, out of time or epochs, or every trial failing."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ray.tune import Stopper

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.errors import INTERRUPTED
from tune_mentormix.experiment.events import Event, Failed, Finished, Proposed, Report, Stopped
from tune_mentormix.experiment.experiment import Experiment

FAILURES_THAT_END_A_SEARCH = 3  # while no other trial gets anywhere


BUDGETS = ("time_budget", "epoch_budget")
INTERRUPT_SECONDS = 30.0  # for the workers to stop in

logger = logging.getLogger(__name__)


class SearchLimits(Stopper):
    """Tune asks at every turn whether to stop all trials; `reason` says why it was told so."""

    def __init__(
        self, experiment: Experiment, epochs: int, time_budget: float | None, epoch_budget: int | None
    ) -> None:
        """`epochs` of a trial; `time_budget` in seconds from now; `epoch_budget` over all runs of the experiment."""
        self.reason: str | None = None
        self._experiment = experiment
        self._epochs = epochs
        self._failed_before = experiment.counts()["failed"]
        self._epoch_budget = epoch_budget
        self._deadline = None if time_budget is None else time.monotonic() + time_budget

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Single trials are the scheduler's business."""
        return False

    @contextmanager
    def heed_signals(self) -> Iterator[None]:
        """While the block runs, SIGINT and SIGTERM end the search cleanly; a second one ends the process at once.

        A signal to the whole process group, as job managers send it, takes Ray's own processes away too, and Tune
        would wait for them: after `INTERRUPT_SECONDS` the process ends all the same. The journal is on the disk.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        overdue = threading.Timer(INTERRUPT_SECONDS, _exit_overdue)
        overdue.daemon = True
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def interrupt(_signal: int, _frame: FrameType | None) -> None:
            self.reason = "interrupted"
            overdue.start()
            for number in before:
                signal.signal(number, signal.default_int_handler)

        for number in before:
            signal.signal(number, interrupt)
        try:
            yield
        finally:
            overdue.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop_all(self) -> bool:
        """Whether to stop all trials at once."""
        return self.is_over() and not (self.reason in BUDGETS and self._is_one_at_its_end())

    def is_over(self) -> bool:
        """Whether the search is over, so that no other trial is to start."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.reason = self.reason or "time_budget"
        elif self._epoch_budget is not None and self._experiment.epochs_run >= self._epoch_budget:
            self.reason = self.reason or "epoch_budget"
        elif self._are_all_failing():
            self.reason = self.reason or "all_failing"
        return self.reason is not None

    def _are_all_failing(self) -> bool:
        """Trials failed in this run, and no trial that did not has ever reported anything."""
        if any(trial.reports and trial.state != "failed" for trial in self._experiment.trials.values()):
            return False  # mostly by the first of them, the published setting
        failed = self._experiment.counts()["failed"] - self._failed_before
        return failed >= min(FAILURES_THAT_END_A_SEARCH, self._experiment.num_samples)

    def _is_one_at_its_end(self) -> bool:
        """Whether a trial has only its last checkpoint to write."""
        return any(trial.epoch >= self._epochs for trial in self._experiment.unfinished())


def _exit_overdue() -> None:
    logger.error("interrupted; Ray did not end in time. Nothing that was reported is lost: `resume` goes on")
    os._exit(INTERRUPTED)


class Patience:
    """Trials in a row, in the order of their ends, without a better accuracy at the last epoch."""

    def __init__(self, trials: int | None) -> None:
        """`trials` without a better result use it up; None: it lasts for ever."""
        self._trials = trials
        self._since_best = 0
        self._best: float | None = None
        self._latest: dict[int, float] = {}
        self._baselines: set[int] = set()

    @property
    def is_used_up(self) -> bool:
        """Whether no further trial is worth starting."""
        return self._trials is not None and self._since_best >= self._trials

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account; the baselines, which do not compete, count for nothing."""
        if isinstance(event, Proposed) and event.control in BASELINES:
            self._baselines.add(event.trial)
        elif isinstance(event, Report) and event.val_accuracy is not None:
            self._latest[event.trial] = event.val_accuracy
        elif isinstance(event, Finished | Stopped | Failed) and event.trial not in self._baselines:
            self._end(self._latest.get(event.trial) if isinstance(event, Finished) else None)

    def _end(self, accuracy: float | None) -> None:
        if accuracy is not None and (self._best is None or accuracy > self._best):
            self._best, self._since_best = accuracy, 0
        elif self._best is not None:
            self._since_best += 1
