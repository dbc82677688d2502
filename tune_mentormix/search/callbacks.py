"""Writes what happens in a Tune run into the journal, and keeps everything that is read from it up to date."""

from __future__ import annotations

import base64
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.exceptions import RayError
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.logger import TBXLoggerCallback

from trainables.errors import StorageUnavailableError, one_line
from trainables.mentormix import waiting_trials
from trainables.plugins import in_words, plugins_in
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.checkpoints import CHECKPOINTS_KEPT, validation_probabilities
from tune_mentormix.experiment.events import (
    Checkpoint,
    EventJournal,
    Failed,
    Finished,
    NoiseEstimated,
    Report,
    Stopped,
)
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.formatting import format_duration
from tune_mentormix.results.label_quality import estimate_noise
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving
from tune_mentormix.search.searcher import JournaledSearcher, Run
from tune_mentormix.search.stopper import SearchStopper
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.paths import StorageError, relative_to, remove_folder, why_not_writable, write_atomically
from tune_mentormix.storage.waiting import WAITS

logger = logging.getLogger(__name__)

ANSWERS_FOLDER = "answers"  # of an experiment with so many validation images that a line would become too long
LOOK_SECONDS = 2.0  # between two looks at which trials wait for the storage
MAX_IMAGES_IN_JOURNAL = 2**17  # 22 kB a report
REPORTED = (
    *("val_accuracy", "val_loss", "train_loss", "mean_weight", "epoch_seconds", "images_per_second"),
    "noisy_val_accuracy",  # only with verified labels: on the labels of the same images in the data
    *("balanced_accuracy", "macro_f1"),
    "top5_accuracy",  # only with more than five classes
    "own_metric",  # only of a metric that is a plug-in
    "selected_clean_fraction",  # only where clean training labels are known
)


@contextmanager
def open_journal(experiment: Experiment) -> Iterator[EventJournal]:
    """Opens the experiment's journal to write to. Raises RequestError if its storage cannot be used now."""
    try:
        journal = EventJournal(experiment.path / JOURNAL_FILE)
    except OSError as error:
        raise RequestError(f"{experiment.path} cannot be written: {one_line(error)} (--storage)") from error
    with closing(journal):
        yield journal


class JournalCallback(Callback):
    """Writes Tune's callbacks to the journal. A trial without an end event is resumed later."""

    def __init__(
        self,
        run: Run,
        early_stopping: AsyncSuccessiveHalving,
        searcher: JournaledSearcher,
        stopper: SearchStopper,
    ) -> None:
        """`searcher` retries lost trials; `stopper` is updated at every turn of Tune's loop."""
        self._run = run
        self._journal = run.journal
        self._experiment = run.experiment
        self._early_stopping = early_stopping
        self._searcher = searcher
        self._stopper = stopper
        self._cleanup = CheckpointCleanup(run.experiment)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Writes what is due, shows progress, and checks the budgets."""
        self._stopper.update()

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
            self._searcher.reset_losses(number)
        answers = self._answers(number, trial.config["attempt"], result)
        metrics = {name: result[name] for name in REPORTED if name in result}
        which = {"trial": number, "attempt": trial.config["attempt"], "node": result["hostname"]}
        self._journal.record(Report(**which, epoch=result["epoch"], **metrics, **answers))

    def _answers(self, number: int, attempt: int, result: dict[str, Any]) -> dict[str, Any]:
        """Takes from a result which images were right, and returns what the journal keeps of it.

        Trials are compared at rungs and at the last epoch. What is taken here, trackers do not see.
        """
        bits, images = result.pop("val_correct", None), result.pop("val_images", 0)
        epoch = result["epoch"]
        if bits is None or epoch not in (*self._early_stopping.rungs, self._run.settings.epochs):
            return {}
        if images > MAX_IMAGES_IN_JOURNAL:
            path = f"{ANSWERS_FOLDER}/trial-{number:04d}-attempt-{attempt}-epoch-{epoch:04d}.bits"
            try:
                (self._experiment.path / ANSWERS_FOLDER).mkdir(exist_ok=True)
                write_atomically(self._experiment.path / path, base64.b64decode(bits))
                return {"val_images": images, "val_correct_file": path}
            except OSError as error:  # the journal itself can wait for the storage
                logger.warning("%s was not written, its bits go into the journal: %s", path, one_line(error))
        return {"val_images": images, "val_correct": bits}

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """Records where a checkpoint is, relative to the experiment, so that the folder can be moved."""
        path = relative_to(self._experiment.path, checkpoint.path)
        number, attempt = trial.config["trial"], trial.config["attempt"]
        epoch = trial.last_result["epoch"]
        self._journal.record(Checkpoint(trial=number, attempt=attempt, epoch=epoch, path=path))
        if self._journal.is_flushed:  # else a resume would still use an older one
            self._cleanup.delete_old(number)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Records how a trial ended, if it did."""
        record_end(self._run, self._early_stopping, trial.config["trial"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Retries a trial whose worker was lost, unless it had ended or this was once too often.

        A trial that waited in vain for the storage did not fail: it is retried, or resumed later.
        """
        number = trial.config["trial"]
        if record_end(self._run, self._early_stopping, number) or self._experiment.trials[number].has_ended:
            return
        cause = error_cause(trial)
        waited_in_vain = StorageUnavailableError.__name__ in cause
        if waited_in_vain:
            self._stopper.storage_error = why_not_writable(self._experiment.path)
        if self._stopper.storage_error or self._searcher.retry(number):
            return
        if waited_in_vain:
            self._stopper.storage_error = cause
            return
        error = f"worker lost {self._run.settings.max_restarts + 1} times without a new epoch: {cause}"
        self._journal.record(Failed(trial=number, error=error, worker_lost=True))


def record_end(run: Run, early_stopping: AsyncSuccessiveHalving, number: int) -> bool:
    """Records the end of a trial that trained all its epochs or was stopped early; returns whether it did."""
    trial = run.experiment.trials[number]
    if trial.has_ended:
        return False
    if trial.epoch >= run.settings.epochs:
        _record_noise(run, trial)
        run.journal.record(Finished(trial=number, epoch=trial.epoch))
    elif early_stopping.is_stopped(number):
        run.journal.record(Stopped(trial=number, epoch=trial.epoch))
    return trial.has_ended


def _record_noise(run: Run, trial: Trial) -> None:
    """Records the label noise as the trial's network sees it, if its probabilities are there and labels are noisy."""
    labels = run.dataset.fold_labels(trial.fold or 0)
    if trial.noise or run.dataset.validation_labels_kind == "clean":
        return
    try:
        probabilities = validation_probabilities(run.experiment, trial)
    except StorageError:  # the search goes on without an estimate from this trial
        return
    if probabilities is None or len(probabilities) != len(labels):
        return
    if noise := estimate_noise(labels, probabilities):
        run.journal.record(NoiseEstimated(trial=trial.number, epoch=trial.epoch, noise=noise))


def error_cause(trial: Any) -> str:
    """Returns the last line of what Tune wrote about a trial's latest error: Ray puts the cause there.

    It is read from Tune's own folder on this machine: `Trial.get_error` looks in the storage, which gets it later.
    """
    file = trial.error_file
    text = Path(file).read_text() if file and Path(file).is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "the reason is not known"


class CheckpointCleanup:
    """Deletes a trial's old checkpoints, whichever attempt wrote them."""

    def __init__(self, experiment: Experiment) -> None:
        """Assumes that no checkpoint was deleted yet; the journal keeps `experiment` up to date."""
        self._experiment = experiment
        self._deleted: Counter[int] = Counter()  # trial → how many of its checkpoints, from the oldest on

    def delete_old(self, number: int) -> None:
        """Deletes all but the trial's newest checkpoints; what the storage cannot delete now stays."""
        checkpoints = self._experiment.trials[number].checkpoints
        for _, path in checkpoints[self._deleted[number] : -CHECKPOINTS_KEPT]:
            self._deleted[number] += 1
            try:
                remove_folder(self._experiment.path / path)
            except OSError as error:
                logger.warning("an old checkpoint was not deleted: %s; gc deletes it later", error)


def trial_folder(number: int, attempt: int) -> str:
    """Returns a separate folder for each attempt: after a network partition the old worker may still be writing."""
    return f"trial-{number:04d}" if attempt == 1 else f"trial-{number:04d}-attempt-{attempt}"


class CheckpointWaits(Callback):
    """Tells of trials that wait for the storage, on whatever machine, where only their own process notices it."""

    def __init__(self, experiment: Experiment, waits: str) -> None:
        """`waits` names the run for `waiting_trials`."""
        self._experiment = experiment
        self._waits = waits
        self._waiting: set[str] = set()
        self._next_look = 0.0

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Looks, now and then, who began to wait and who is done."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        found = {}
        try:
            waiting = waiting_trials(self._waits)
        except RayError:
            return  # the head of a cluster may be away for a moment
        for (number, attempt), reason in waiting.items():
            trial = self._experiment.trials.get(number)
            if trial and (trial.state, trial.attempt) == ("running", attempt):
                found[f"a checkpoint of trial {number}"] = reason
        for who, reason in found.items():
            WAITS.begin(who, reason)
        for who in self._waiting - found.keys():
            WAITS.end(who)
        self._waiting = set(found)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Forgets those that gave up."""
        for who in self._waiting:
            WAITS.end(who, gave_up=True)


class TrialTimeout(Callback):
    """Kills the worker of a trial that has reported nothing for too long."""

    def __init__(self, journal: EventJournal, experiment: Experiment, timeout: float) -> None:
        """`timeout` in seconds; it has to allow for the slowest epoch and for writing a checkpoint."""
        self._journal = journal
        self._experiment = experiment
        self._timeout = timeout
        self._last_seen: dict[int, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Starts the clock of a trial that has a worker now."""
        self._last_seen[trial.config["trial"]] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Restarts the trial's clock."""
        self._last_seen[trial.config["trial"]] = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Fails the trials whose clock ran out, unless they wait for the storage."""
        now = time.monotonic()
        hung = {number for number, last_seen in self._last_seen.items() if last_seen < now - self._timeout}
        if hung and why_not_writable(self._experiment.path):
            self._last_seen.update(dict.fromkeys(hung, now))  # they wait for the storage
            return
        for trial in trials if hung else ():
            number = trial.config["trial"]
            if number in hung and trial.status == TuneTrial.RUNNING:
                self._end(number, trial)
        for number in hung:
            del self._last_seen[number]

    def _end(self, number: int, trial: Any) -> None:
        if not self._experiment.trials[number].has_ended:
            error = f"no report for {format_duration(self._timeout)} (trial_timeout): the worker was killed"
            used = self._experiment.trials[number].config | {"metric": self._experiment.settings.metric}
            if plugins := plugins_in(used):
                error += f" (with {in_words(plugins)})"
            self._journal.record(Failed(trial=number, error=error, worker_lost=True))
        ray.kill(trial.temporary_state.ray_actor)


class CpuFallbackWarning(Callback):
    """Warns, once per node, when a trial was given a GPU but trains on the CPU."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Looks at the device that the trial reports."""
        node = result["hostname"]
        if result.get("device") == "cpu" and node not in self._warned:
            self._warned.add(node)
            logger.warning(
                "trials on %s hold GPUs and train on the CPU, since torch finds no GPU there: is its driver too "
                "old, or its torch one without CUDA?",
                node,
            )


PROJECT = "tune-mentormix"  # at Weights & Biases; an experiment is a group of runs there


def tracker_callbacks(names: Collection[str], experiment: str) -> list[Callback]:
    """Returns TensorBoard's callback, and those asked for.

    Servers and keys come from each tracker's own settings, such as `MLFLOW_TRACKING_URI` and `WANDB_API_KEY`.
    """
    callbacks: list[Callback] = [TBXLoggerCallback()]  # type: ignore[no-untyped-call]
    if "wandb" in names:
        callbacks.append(WandbLoggerCallback(project=PROJECT, group=experiment))
    if "mlflow" in names:
        callbacks.append(MLflowLoggerCallback(experiment_name=experiment))
    return callbacks
