"""One Tune run over a journal: what a search and a confirmation have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, PlacementGroupFactory, TuneError
from ray.tune.search import Searcher

from trainables.data import Dataset
from trainables.errors import one_line
from trainables.mentormix import MentorMixTrainable
from tune_mentormix.cluster.resources import max_concurrent_trials
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError, SearchFailedError
from tune_mentormix.experiment.events import EventJournal, RunEnded, RunStarted
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.search.callbacks import (
    HungTrials,
    IdleGpus,
    Retention,
    TuneRecorder,
    end_of,
    tracker_callbacks,
    trial_folder,
)
from tune_mentormix.search.early_stopping import EarlyStopping, Rungs
from tune_mentormix.search.searcher import RestartingSearcher
from tune_mentormix.search.stopper import SearchLimits
from tune_mentormix.storage.paths import tune_storage

Progress = Callable[[Experiment], None]
TURN_SECONDS = 0.2  # of waiting for the storage, once no trial runs any more


def run_trials(
    experiment: Experiment,
    journal: EventJournal,
    searcher: Searcher,
    rungs: Rungs,
    settings: SearchSettings,
    dataset: Dataset,
    progress: Progress,
) -> str:
    """Runs what the searcher proposes until it is finished, interrupted or out of budget.

    Args:
        experiment: kept up to date by the journal; its folder gets Tune's files, under `runs/<n>`.
        journal: where every event is written.
        searcher: proposes trials, each in the journal before Tune knows of it.
        rungs: stop trials early.
        settings: resources, checkpoints, restarts and the time budget.
        dataset: put once into Ray's object store.
        progress: called with the experiment after every event and at every turn of Tune's loop.

    Returns:
        Why the run ended: `finished`, `interrupted`, `time_budget`, `epoch_budget` or `all_failing`.

    Raises:
        SearchFailedError: if the storage could not be used for long; what was stored stays, and can be gone on with.
    """
    limits = SearchLimits(experiment, settings.epochs, settings.time_budget, settings.epoch_budget)
    watch: list[Callback] = [IdleGpus()] if settings.gpus() else []
    if settings.trial_timeout:
        watch.append(HungTrials(journal, experiment, settings.trial_timeout))

    def is_over() -> bool:
        journal.flush()
        if journal.permanent_error or callback.storage_error:
            limits.reason = limits.reason or "storage"
        progress(experiment)
        return limits.is_over()

    room = partial(max_concurrent_trials, settings)
    searcher = RestartingSearcher(
        searcher, experiment, journal, settings.threads(), settings.max_restarts, room, is_over
    )
    callback = TuneRecorder(journal, experiment, rungs, settings.epochs, searcher, Retention(experiment), is_over)
    # `tune.run` and not `Tuner`, which pickles all of this for a restore that the journal makes unnecessary.
    with limits.heed_signals(), _failing_in_one_line():
        tune.run(
            _trainable(settings, dataset),
            name=str(experiment.runs),
            **tune_storage(experiment.path / "runs"),
            metric="val_accuracy",
            mode="max",
            search_alg=searcher,
            scheduler=EarlyStopping(rungs),
            num_samples=-1,  # the searcher says when it is finished
            reuse_actors=True,
            max_failures=0,  # the searcher sees to lost workers
            raise_on_failed_trial=False,
            checkpoint_config=CheckpointConfig(
                checkpoint_frequency=settings.epochs_between_checkpoints(), checkpoint_at_end=True
            ),
            stop=limits,
            callbacks=[callback, *watch, *tracker_callbacks(settings.tracker, experiment.name)],
            trial_name_creator=_trial_folder,
            trial_dirname_creator=_trial_folder,
            verbose=0,
        )
        record_missing_ends(experiment, rungs, settings.epochs, journal)
        while not (journal.is_flushed or limits.reason in ("interrupted", "storage") or journal.permanent_error):
            journal.flush()
            time.sleep(TURN_SECONDS)
    unwritten = callback.storage_error
    lost = journal.permanent_error or (
        f"checkpoints could not be written for long: {unwritten}" if unwritten else None
    )
    if lost:
        journal.record(RunEnded(run=experiment.runs, reason="storage"))
        raise SearchFailedError(f"{lost}. What was stored is safe: once the storage works again, go on")
    return limits.reason or "finished"


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    """What Tune, or a callback of a tracker, cannot write ends the search as a fault of this machine."""
    try:
        yield
    except (OSError, TuneError) as error:
        cause = _system_error(error)
        if cause is None:
            raise
        where = f" ({cause.filename})" if cause.filename else ""
        raise SearchFailedError(
            f"this machine could not go on: {one_line(cause)}{where}. What was stored is safe: once that is "
            "mended, go on"
        ) from error


def _system_error(error: BaseException | None) -> OSError | None:
    """The one that an error is, or began with."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def begin_run(
    experiment: Experiment, journal: EventJournal, num_samples: int, rungs: list[int], settings: SearchSettings
) -> None:
    """Records that a run begins. Raises RequestError if the storage cannot take even that."""
    journal.record(
        RunStarted(
            run=experiment.runs + 1,
            num_samples=num_samples,
            rungs=rungs,
            cpus_per_trial=settings.cpus_per_trial,
            gpus_per_trial=settings.gpus(),
        )
    )
    if not journal.is_flushed:
        raise RequestError("the journal cannot be written, so nothing was started (--storage)")


def record_missing_ends(experiment: Experiment, rungs: Rungs, epochs: int, journal: EventJournal) -> None:
    """Writes down the ends of trials that a driver did not come to after their last reports; trains nothing again."""
    for trial in experiment.unfinished():
        end = end_of(trial, rungs, epochs)
        if end:
            journal.record(end)


def _trainable(settings: SearchSettings, dataset: Dataset) -> Any:
    """The trainable with its data, put once into Ray's object store, and what each trial may use."""
    resources = PlacementGroupFactory([{"CPU": settings.cpus_per_trial, "GPU": settings.gpus()}])
    return tune.with_resources(tune.with_parameters(MentorMixTrainable, dataset=dataset), resources)


def _trial_folder(trial: Any) -> str:
    return trial_folder(trial.config["trial"], trial.config["attempt"])
