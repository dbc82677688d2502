"""Writes what happens in a Tune run into the journal, and keeps everything that is read from it up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback

from trainables.stored_checkpoint import StorageUnavailableError
from tune_mentormix.console import print_note
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.retention import Retention
from tune_mentormix.rungs import Rungs
from tune_mentormix.storage.journal import JOURNAL_FILE, Event, Journal
from tune_mentormix.storage.paths import relative_to, why_not_writable

REPORTED = (
    "val_accuracy",
    "val_loss",
    "train_loss",
    "mean_weight",
    "epoch_seconds",
    "images_per_second",
    "selected_clean_fraction",  # only where clean training labels are known
)


class Reader(Protocol):
    """Whatever is a fold over the events: the experiment, the study, the rungs."""

    def apply(self, event: Event) -> None:
        """Takes one event into account."""


class Restarts(Protocol):
    """Decides whether a trial whose worker was lost is started again, and sees to it."""

    allowed: int

    def got_ahead(self, trial: int) -> None:
        """The trial reports an epoch for the first time."""

    def take_up_again(self, trial: int) -> bool:
        """The trial's worker was lost; says whether the trial starts again."""


@contextmanager
def open_journal(experiment: Experiment) -> Iterator[Journal]:
    """The experiment's journal to write to. Raises RequestError if its storage cannot be used now."""
    try:
        journal = Journal(experiment.path / JOURNAL_FILE, print_note)
    except OSError as error:
        raise RequestError(f"{experiment.path} cannot be written: {error.strerror} (--storage)") from error
    with closing(journal):
        yield journal


class Recorder:
    """Appends events to the journal and hands each to all readers."""

    def __init__(self, journal: Journal, readers: list[Reader]) -> None:
        self._journal = journal
        self._readers = readers

    def record(self, event: str, **fields: Any) -> None:
        """Writes one event; when this returns it is stored, or waits to be, and every reader knows it."""
        entry = self._journal.append(event, **fields)
        for reader in self._readers:
            reader.apply(entry)

    def begin_run(self, **fields: Any) -> None:
        """Writes down that a run begins. Raises RequestError if the storage cannot take even that."""
        self.record("run_started", **fields)
        if not self.is_stored:
            raise RequestError("the journal cannot be written, so nothing was started (--storage)")

    def write_due(self) -> None:
        """Writes what waits to be stored, if it is time to."""
        self._journal.write_due()

    @property
    def is_stored(self) -> bool:
        """Whether nothing that something follows from waits to be stored."""
        return self._journal.is_stored

    @property
    def given_up(self) -> str | None:
        """Why nothing more can be stored, in one line, once that is certain or has lasted too long."""
        return self._journal.given_up


class TuneRecorder(Callback):
    """Tune's events as ours. A trial that neither ended nor was stopped by a rung stays unfinished: resume's."""

    def __init__(
        self,
        recorder: Recorder,
        experiment: Experiment,
        rungs: Rungs,
        epochs: int,
        restarts: Restarts,
        retention: Retention,
        on_event: Callable[[], object],
    ) -> None:
        """`on_event` is called after every event and at every turn of Tune's loop, to show progress."""
        self._recorder = recorder
        self._experiment = experiment
        self._rungs = rungs
        self._epochs = epochs
        self._restarts = restarts
        self._retention = retention
        self._on_event = on_event
        self.storage_error: str | None = None  # why trials cannot write or read their checkpoints

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Shows progress."""
        self._on_event()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Records a report, or the reason a trial gives for its own failure."""
        number = trial.config["trial"]
        if "failure" in result:
            node = result["hostname"]
            self._recorder.record("failed", trial=number, node=node, error=result["failure"], worker_lost=False)
            return
        if result["epoch"] > self._experiment.trials[number].epoch:
            self._restarts.got_ahead(number)
        metrics = {name: result[name] for name in REPORTED if name in result}
        which = {"trial": number, "attempt": trial.config["attempt"], "node": result["hostname"]}
        self._recorder.record("report", **which, epoch=result["epoch"], **metrics)

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """Records where a checkpoint lies, relative to the experiment, so that the folder can be moved."""
        path = relative_to(self._experiment.path, checkpoint.path)
        number, attempt = trial.config["trial"], trial.config["attempt"]
        epoch = trial.last_result["epoch"]
        self._recorder.record("checkpoint", trial=number, attempt=attempt, epoch=epoch, path=path)
        if self._recorder.is_stored:  # or what a resume would still go on from
            self._retention.prune(number)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Records how a trial ended, if it did."""
        self._record_end(trial.config["trial"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker was lost: the trial starts again, unless it had ended or this was once too often.

        One that waited in vain for the storage did not fail: it is resume's, unless another machine has better luck.
        """
        number = trial.config["trial"]
        if self._record_end(number) or self._experiment.trials[number].has_ended:
            return
        waited_in_vain = StorageUnavailableError.__name__ in cause_of(trial)
        if waited_in_vain:
            self.storage_error = why_not_writable(self._experiment.path)
        if self.storage_error:
            return
        if not self._restarts.take_up_again(number):
            if waited_in_vain:
                self.storage_error = cause_of(trial)
                return
            error = f"worker lost {self._restarts.allowed + 1} times without a new epoch: {cause_of(trial)}"
            self._recorder.record("failed", trial=number, error=error, worker_lost=True)

    def _record_end(self, number: int) -> bool:
        end = how_it_ended(self._experiment, self._rungs, number, self._epochs)
        if end:
            self._recorder.record(end, trial=number, epoch=self._experiment.trials[number].epoch)
        return end is not None


def how_it_ended(experiment: Experiment, rungs: Rungs, number: int, epochs: int) -> str | None:
    """`finished`, `stopped`, or None for a trial that has not ended or whose end is written down already."""
    trial = experiment.trials[number]
    if trial.has_ended:
        return None
    if trial.epoch >= epochs:
        return "finished"
    return "stopped" if rungs.stopped(number) else None


def cause_of(trial: Any) -> str:
    """The last line that says something of what Tune wrote about a trial's latest error: Ray puts the cause there.

    From Tune's own folder on this machine; `Trial.get_error` looks in the storage, where it is only copied later.
    """
    file = trial.error_file
    text = Path(file).read_text() if file and Path(file).is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "the reason is not known"
