"""Ends a search before its last trial: interrupted, over budget, on a plateau, or with every trial failing."""

from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ray.tune import Stopper

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import FAILED, INTERRUPTED
from tune_mentormix.experiment.events import (
    Event,
    EventJournal,
    Failed,
    Finished,
    OutputLost,
    Proposed,
    Report,
    Stopped,
)
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.output import is_interactive, lost_streams

MAX_FAILURES = 3  # trials that fail before any other trial reports anything end the search
SOFT_REASONS = ("time_budget", "epoch_budget")  # for these, a trial may still write its last checkpoint
INTERRUPT_SECONDS = 30.0  # for the workers to stop in
LAST_EVENT_SECONDS = 4.0  # for the storage to take it in

logger = logging.getLogger(__name__)


class SearchStopper(Stopper):
    """Tune's stopper for the whole search; single trials are stopped by the scheduler."""

    def __init__(
        self,
        experiment: Experiment,
        journal: EventJournal,
        settings: SearchSettings,
        on_progress: Callable[[Experiment], None],
    ) -> None:
        """Starts the clock of the time budget; the epoch budget counts all runs of the experiment."""
        self.reason: str | None = None
        """Why the search should stop; None while it should not."""
        self.signal: str | None = None
        """Which signal interrupted it."""
        self.storage_error: str | None = None
        """Why trials cannot write or read their checkpoints."""
        self._experiment = experiment
        self._settings = settings
        self._journal = journal
        self._on_progress = on_progress
        self._failed_before = experiment.counts()["failed"]
        budget = settings.time_budget
        self._deadline = None if budget is None else time.monotonic() + budget
        self._lost: set[str] = set()  # of this process's streams, those that the journal names

    def update(self) -> None:
        """Writes pending events, reports progress, and decides whether the search should stop."""
        self._journal.flush()
        self._on_progress(self._experiment)
        for stream, reason in lost_streams().items():
            if stream not in self._lost:
                self._lost.add(stream)
                self._journal.record(OutputLost(stream=stream, reason=reason))
        self.reason = self.reason or self._new_reason()

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Ray's hook for one trial: never stops it."""
        return False

    def stop_all(self) -> bool:
        """Ray's hook: whether to stop all trials at once."""
        self.reason = self.reason or self._new_reason()
        return self.reason is not None and not (self.reason in SOFT_REASONS and self._is_any_trial_at_its_end())

    def exit(self, problem: str, again: str) -> None:
        """Ends this process from another thread than the main one, which waits for Ray; logs how to continue.

        What was reported is in the journal. The end of the run is written too, if the storage takes it at once.
        """
        end: dict[str, object] = {"run": self._experiment.runs, "reason": "ray_lost"}
        if self.signal:
            problem, end = f"interrupted by {self.signal}", end | {"reason": "interrupted", "signal": self.signal}
        logger.error("%s, so the search ends. Everything reported is saved: continue with %s", problem, again)
        last = threading.Thread(target=self._journal.append, args=("run_ended",), kwargs=end, daemon=True)
        last.start()
        last.join(LAST_EVENT_SECONDS)
        os._exit(INTERRUPTED if self.signal else FAILED)

    def __getstate__(self) -> dict[str, object]:
        """Returns nothing: Tune pickles its stopper for a restore that the journal makes unnecessary."""
        return {}

    def _new_reason(self) -> str | None:
        if self.storage_error or self._journal.permanent_error:
            return "storage"
        if self._deadline is not None and time.monotonic() > self._deadline:
            return "time_budget"
        if self._settings.epoch_budget is not None and self._experiment.epochs_run >= self._settings.epoch_budget:
            return "epoch_budget"
        return "all_failing" if self._are_all_failing() else None

    def _are_all_failing(self) -> bool:
        """Whether trials failed in this run, and no trial that did not fail has ever reported anything."""
        if any(trial.reports and trial.state != "failed" for trial in self._experiment.trials.values()):
            return False  # mostly decided by the first trial, the published setting
        failed = self._experiment.counts()["failed"] - self._failed_before
        return failed >= min(MAX_FAILURES, self._experiment.num_samples)

    def _is_any_trial_at_its_end(self) -> bool:
        """Whether a trial has only its last checkpoint left to write."""
        return any(trial.epoch >= self._settings.epochs for trial in self._experiment.unfinished())


@contextmanager
def stop_on_signals(stopper: SearchStopper, again: str, await_loss: Callable[[], None]) -> Iterator[None]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP stop the search cleanly; a second ends the process at once.

    A SIGHUP tells that the terminal was closed. It stays ignored under `nohup`, and so is a second one: the terminal
    and its shell send one each.

    A SIGTERM to the whole process group, as job managers send it, also ends Ray's own processes, so `await_loss` is
    called before Tune goes on. Where Tune does not stop within `INTERRUPT_SECONDS`, the process exits anyway, and
    logs `again`, the command that continues. A person's session, such as a notebook's, gets a KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    overdue = threading.Timer(INTERRUPT_SECONDS, _end_overdue, (stopper, again))
    overdue.daemon = True
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] == signal.SIG_IGN:
        del before[signal.SIGHUP]

    def interrupt(number: int, _frame: FrameType | None) -> None:
        stopper.reason, stopper.signal = "interrupted", signal.Signals(number).name
        overdue.start()
        for other in before:
            signal.signal(other, signal.SIG_IGN if other == signal.SIGHUP else signal.default_int_handler)
        if number == signal.SIGTERM:
            await_loss()

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        overdue.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_overdue(stopper: SearchStopper, again: str) -> None:
    if is_interactive():
        _thread.interrupt_main()
    else:
        stopper.exit("Ray did not stop in time", again)


class Plateau:
    """Trials that ended since the last better metric at the last epoch, in the order of their ends."""

    def __init__(self, patience: int | None, metric: str = "val_accuracy") -> None:
        """The plateau is reached after `patience` trials without a better result; None: never."""
        self._patience = patience
        self._metric = metric
        self._since_best = 0
        self._best: float | None = None
        self._latest: dict[int, float] = {}
        self._baselines: set[int] = set()

    @property
    def is_reached(self) -> bool:
        """Whether no further trial is worth starting."""
        return self._patience is not None and self._since_best >= self._patience

    def apply(self, event: Event) -> None:
        """Handles one event of the journal; the baselines do not compete, so they do not count."""
        if isinstance(event, Proposed) and event.control in BASELINES:
            self._baselines.add(event.trial)
        elif isinstance(event, Report) and (score := event.score(self._metric)) is not None:
            self._latest[event.trial] = score
        elif isinstance(event, Finished | Stopped | Failed) and event.trial not in self._baselines:
            self._end(self._latest.get(event.trial) if isinstance(event, Finished) else None)

    def _end(self, score: float | None) -> None:
        if score is not None and (self._best is None or score > self._best):
            self._best, self._since_best = score, 0
        elif self._best is not None:
            self._since_best += 1
