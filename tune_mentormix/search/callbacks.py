"""Writes what happens in a Tune run into the journal, and keeps everything that is read from it up to date."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.logger import TBXLoggerCallback

from trainables.errors import StorageUnavailableError, one_line
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import Checkpoint, EventJournal, Failed, Finished, Report, Stopped
from tune_mentormix.experiment.experiment import CHECKPOINTS_KEPT, Experiment, Trial
from tune_mentormix.formatting import format_duration
from tune_mentormix.search.early_stopping import Rungs
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.paths import relative_to, remove_folder, why_not_writable

logger = logging.getLogger(__name__)

REPORTED = (
    "val_accuracy",
    "val_loss",
    "train_loss",
    "mean_weight",
    "epoch_seconds",
    "images_per_second",
    "selected_clean_fraction",  # only where clean training labels are known
)


class Restarts(Protocol):
    """Decides whether a trial whose worker was lost is started again, and sees to it."""

    allowed: int

    def got_ahead(self, trial: int) -> None:
        """The trial reports an epoch for the first time."""

    def take_up_again(self, trial: int) -> bool:
        """The trial's worker was lost; says whether the trial starts again."""


@contextmanager
def open_journal(experiment: Experiment) -> Iterator[EventJournal]:
    """The experiment's journal to write to. Raises RequestError if its storage cannot be used now."""
    try:
        journal = EventJournal(experiment.path / JOURNAL_FILE)
    except OSError as error:
        raise RequestError(f"{experiment.path} cannot be written: {one_line(error)} (--storage)") from error
    with closing(journal):
        yield journal


class TuneRecorder(Callback):
    """Tune's events as ours. A trial that neither ended nor was stopped by a rung stays unfinished: resume's."""

    def __init__(
        self,
        journal: EventJournal,
        experiment: Experiment,
        rungs: Rungs,
        epochs: int,
        restarts: Restarts,
        retention: Retention,
        on_event: Callable[[], object],
    ) -> None:
        """`on_event` is called after every event and at every turn of Tune's loop, to show progress."""
        self._journal = journal
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
            self._journal.record(Failed(trial=number, node=node, error=result["failure"], worker_lost=False))
            return
        if result["epoch"] > self._experiment.trials[number].epoch:
            self._restarts.got_ahead(number)
        metrics = {name: result[name] for name in REPORTED if name in result}
        which = {"trial": number, "attempt": trial.config["attempt"], "node": result["hostname"]}
        self._journal.record(Report(**which, epoch=result["epoch"], **metrics))

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """Records where a checkpoint lies, relative to the experiment, so that the folder can be moved."""
        path = relative_to(self._experiment.path, checkpoint.path)
        number, attempt = trial.config["trial"], trial.config["attempt"]
        epoch = trial.last_result["epoch"]
        self._journal.record(Checkpoint(trial=number, attempt=attempt, epoch=epoch, path=path))
        if self._journal.is_flushed:  # or what a resume would still go on from
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
            self._journal.record(Failed(trial=number, error=error, worker_lost=True))

    def _record_end(self, number: int) -> bool:
        end = end_of(self._experiment.trials[number], self._rungs, self._epochs)
        if end:
            self._journal.record(end)
        return end is not None


def end_of(trial: Trial, rungs: Rungs, epochs: int) -> Finished | Stopped | None:
    """The event that ends a trial; None while it has not ended, or if its end is in the journal already."""
    if trial.has_ended:
        return None
    if trial.epoch >= epochs:
        return Finished(trial=trial.number, epoch=trial.epoch)
    return Stopped(trial=trial.number, epoch=trial.epoch) if rungs.stopped(trial.number) else None


def cause_of(trial: Any) -> str:
    """The last line that says something of what Tune wrote about a trial's latest error: Ray puts the cause there.

    From Tune's own folder on this machine; `Trial.get_error` looks in the storage, where it is only copied later.
    """
    file = trial.error_file
    text = Path(file).read_text() if file and Path(file).is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "the reason is not known"


logger = logging.getLogger(__name__)


class Retention:
    """Deletes a trial's old checkpoints, whichever attempt wrote them."""

    def __init__(self, experiment: Experiment) -> None:
        """Starts with everything there; the recorder keeps `experiment` up to date."""
        self._experiment = experiment
        self._looked_at: Counter[int] = Counter()  # trial → of its checkpoints, how many from the oldest on

    def prune(self, number: int) -> None:
        """Deletes what the trial's newest checkpoints replace. A storage in trouble keeps what it has."""
        checkpoints = self._experiment.trials[number].checkpoints
        for _, path in checkpoints[self._looked_at[number] : -CHECKPOINTS_KEPT]:
            self._looked_at[number] += 1
            try:
                remove_folder(self._experiment.path / path)
            except OSError as error:
                logger.warning("an old checkpoint stays: %s", error)


def trial_folder(number: int, attempt: int) -> str:
    """One an attempt: behind a cut network the worker of an earlier one may still be writing."""
    return f"trial-{number:04d}" if attempt == 1 else f"trial-{number:04d}-attempt-{attempt}"


class HungTrials(Callback):
    """Watches the time since each running trial's start or latest report."""

    def __init__(self, journal: EventJournal, experiment: Experiment, timeout: float) -> None:
        """`timeout` in seconds; it has to allow for the slowest epoch and for writing a checkpoint."""
        self._journal = journal
        self._experiment = experiment
        self._timeout = timeout
        self._heard_at: dict[int, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has a worker."""
        self._heard_at[trial.config["trial"]] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """The trial lives."""
        self._heard_at[trial.config["trial"]] = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ends those that were not heard of for too long."""
        now = time.monotonic()
        hung = {number for number, heard_at in self._heard_at.items() if heard_at < now - self._timeout}
        if hung and why_not_writable(self._experiment.path):
            self._heard_at.update(dict.fromkeys(hung, now))  # they wait for the storage
            return
        for trial in trials if hung else ():
            number = trial.config["trial"]
            if number in hung and trial.status == TuneTrial.RUNNING:
                self._end(number, trial)
        for number in hung:
            del self._heard_at[number]

    def _end(self, number: int, trial: Any) -> None:
        if not self._experiment.trials[number].has_ended:
            error = f"no report for {format_duration(self._timeout)} (trial_timeout): the worker was killed"
            self._journal.record(Failed(trial=number, error=error, worker_lost=True))
        ray.kill(trial.temporary_state.ray_actor)


class IdleGpus(Callback):
    """Looks at where each trial trains, and names a node once."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reports."""
        node = result["hostname"]
        if result.get("device") == "cpu" and node not in self._named:
            self._named.add(node)
            logger.warning(
                "%s",
                f"trials on {node} hold GPUs and train on the CPU, since torch finds no GPU there: is its driver too "
                "old, or its torch one without CUDA?",
            )


PROJECT = "tune-mentormix"  # at Weights & Biases; an experiment is a group of runs there


def tracker_callbacks(names: Collection[str], experiment: str) -> list[Callback]:
    """TensorBoard's callback, and those asked for.

    Servers and keys come from each tracker's own settings, such as `MLFLOW_TRACKING_URI` and `WANDB_API_KEY`.
    """
    callbacks: list[Callback] = [TBXLoggerCallback()]  # type: ignore[no-untyped-call]
    if "wandb" in names:
        callbacks.append(WandbLoggerCallback(project=PROJECT, group=experiment))
    if "mlflow" in names:
        callbacks.append(MLflowLoggerCallback(experiment_name=experiment))
    return callbacks
