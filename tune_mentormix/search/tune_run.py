"""One Tune run on the journal of an experiment: what a search and a confirmation have in common."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ray import tune
from ray.tune import CheckpointConfig, PlacementGroupFactory, TuneError

from trainables.data import Dataset
from trainables.errors import one_line
from trainables.mentormix import MentorMixTrainable
from trainables.plugins import sendable
from tune_mentormix.cluster.autoscaling import not_on
from tune_mentormix.cluster.connection import joins_cluster
from tune_mentormix.cluster.health import watch_ray
from tune_mentormix.cluster.nodes import NodeWatch, watch_nodes
from tune_mentormix.cluster.resources import trial_resources
from tune_mentormix.config.settings import CHANGEABLE, SearchSettings
from tune_mentormix.errors import RequestError, SearchFailedError
from tune_mentormix.experiment.events import Handler, RunEnded, RunStarted
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import command
from tune_mentormix.search.callbacks import (
    CheckpointWaits,
    CpuFallbackWarning,
    JournalCallback,
    TrialTimeout,
    open_journal,
    record_end,
    tracker_callbacks,
    trial_folder,
)
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving, EarlyStoppingScheduler
from tune_mentormix.search.node_changes import NodeChanges
from tune_mentormix.search.searcher import JournaledSearcher, Run, TrialStart, next_attempt
from tune_mentormix.search.stopper import SearchStopper, stop_on_signals
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.paths import tune_storage

logger = logging.getLogger(__name__)

Progress = Callable[[Experiment], None]
Proposals = Callable[[Run], Iterator[TrialStart | None]]
FLUSH_SECONDS = 0.2  # between two tries to write the journal once no trial runs any more


def run_experiment(
    experiment: Experiment,
    settings: SearchSettings,
    dataset: Dataset,
    checked: Collection[str],
    proposals: Proposals,
    early_stopping: AsyncSuccessiveHalving,
    handlers: Sequence[Handler],
    on_progress: Progress,
    finish: Callable[[Run, str], str],
    verb: str = "resume",
) -> None:
    """Runs trials until none is left, the user interrupts or a budget is used up; the journal tells how it ended.

    Args:
        experiment: rebuilt from its journal; its lease is held. Tune's files go to its `runs/<n>`.
        settings: `num_samples`, resources, checkpoints, restarts and budgets.
        dataset: put once into Ray's object store.
        checked: IDs of the nodes that were found fit; those that join later are checked then.
        proposals: called once with the run; yields its trials.
        early_stopping: rebuilt from the journal; without rungs, every trial runs to its end.
        handlers: get each new event; they keep `experiment` and `early_stopping` up to date.
        on_progress: called with the experiment after every event and at every turn of Tune's loop.
        finish: called once no trial runs any more, with why; returns the reason that the journal gets.
        verb: the command that continues what was interrupted, for messages.

    Raises:
        RequestError: if the journal cannot be written, before anything starts.
        SearchFailedError: if the storage failed for long; what was stored is safe and can be resumed.

    A Ray that dies ends this process, with exit code 1: calls into it may not return.
    """
    with open_journal(experiment) as journal:
        journal.subscribe(*handlers)
        record = experiment.settings_record()
        kept = {key: value for key, value in record.items() if key not in CHANGEABLE}
        first: dict[str, Any] = {} if experiment.started_with else {"settings": kept}
        journal.record(
            RunStarted(
                run=experiment.runs + 1,
                num_samples=settings.num_samples,
                rungs=early_stopping.rungs,
                cpus_per_trial=settings.cpus_per_trial,
                gpus_per_trial=settings.gpus(),
                **first,
            )
        )
        if not journal.is_flushed:
            path = experiment.path / JOURNAL_FILE
            raise RequestError(f"{path} cannot be written, so nothing was started: free space there (--storage)")
        run = Run(experiment, journal, settings, dataset, on_progress)
        record_missing_ends(run, early_stopping)
        run = replace(run, unfinished=[next_attempt(experiment, trial) for trial in experiment.unfinished()])
        path = experiment.path if verb == "resume" else experiment.path.parent
        again = command(f"{verb} {path.name}", path.parent)
        with watch_nodes(settings, dataset, checked) as nodes:
            reason, signal = _run_trials(run, nodes, proposals(run), early_stopping, again)
        by: dict[str, Any] = {"signal": signal} if signal else {}
        journal.record(RunEnded(run=experiment.runs, reason=finish(run, reason), **by))
    on_progress(experiment)


def _run_trials(
    run: Run,
    nodes: NodeWatch,
    proposals: Iterator[TrialStart | None],
    early_stopping: AsyncSuccessiveHalving,
    again: str,
) -> tuple[str, str | None]:
    """Returns why no trial runs any more: `finished`, `interrupted` by which signal, a budget, or `all_failing`."""
    experiment, journal, settings = run.experiment, run.journal, run.settings
    stopper = SearchStopper(experiment, journal, settings, run.on_progress)
    searcher = JournaledSearcher(run, proposals, stopper, nodes.room)
    waits = secrets.token_hex(8)
    callbacks = [JournalCallback(run, early_stopping, searcher, stopper), CheckpointWaits(experiment, waits)]
    if joins_cluster(settings.address):
        callbacks.append(NodeChanges(run, nodes, searcher))
    if settings.gpus():
        callbacks.append(CpuFallbackWarning())
    if settings.trial_timeout:
        callbacks.append(TrialTimeout(journal, experiment, settings.trial_timeout))
    # `tune.run` and not `Tuner`, which pickles all of this for a restore that the journal makes unnecessary.
    with (
        watch_ray(joins_cluster(settings.address), partial(stopper.exit, again=again)) as watch,
        stop_on_signals(stopper, again, watch.await_loss),
        _failing_in_one_line(again),
    ):
        tune.run(
            _trainable(settings, run.dataset, waits),
            name=str(experiment.runs),
            **tune_storage(experiment.path / "runs"),
            metric="val_accuracy",
            mode="max",
            search_alg=searcher,
            scheduler=EarlyStoppingScheduler(early_stopping, partial(placement, settings, nodes)),
            num_samples=-1,  # the searcher decides when it is finished
            reuse_actors=True,
            max_failures=0,  # the searcher retries trials whose worker was lost
            raise_on_failed_trial=False,
            checkpoint_config=CheckpointConfig(
                checkpoint_frequency=settings.epochs_between_checkpoints(), checkpoint_at_end=True
            ),
            stop=stopper,
            callbacks=[*callbacks, *tracker_callbacks(settings.tracker, experiment.name)],
            trial_name_creator=_trial_folder,
            trial_dirname_creator=_trial_folder,
            verbose=0,
        )
        record_missing_ends(run, early_stopping)
        while not (journal.is_flushed or stopper.reason in ("interrupted", "storage") or journal.permanent_error):
            journal.flush()
            time.sleep(FLUSH_SECONDS)
    checkpoint_error = stopper.storage_error and f"checkpoints could not be written for long: {stopper.storage_error}"
    failure = journal.permanent_error or checkpoint_error
    if failure:
        journal.record(RunEnded(run=experiment.runs, reason="storage"))
        raise SearchFailedError(
            f"{failure}. What was stored is safe: once the storage works again, continue with {again}"
        )
    return stopper.reason or "finished", stopper.signal


def record_missing_ends(run: Run, early_stopping: AsyncSuccessiveHalving) -> None:
    """Records the ends of trials whose last report is in the journal but whose end is not."""
    for trial in run.experiment.unfinished():
        record_end(run, early_stopping, trial.number)


@contextmanager
def _failing_in_one_line(again: str) -> Iterator[None]:
    """Ends the search as a fault of this machine where Tune, or a callback of a tracker, cannot write."""
    try:
        yield
    except (OSError, TuneError) as error:
        cause = _system_error(error)
        if cause is None:
            raise
        where = f" ({cause.filename})" if cause.filename else ""
        raise SearchFailedError(
            f"this machine could not continue: {one_line(cause)}{where}. What was stored is safe: once that is "
            f"mended, continue with {again}"
        ) from error


def _system_error(error: BaseException | None) -> OSError | None:
    """The one that an error is, or began with."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _trainable(settings: SearchSettings, dataset: Dataset, waits: str) -> Any:
    """The trainable with its data, put once into Ray's object store, and what each trial may use."""
    trainable = tune.with_parameters(
        MentorMixTrainable,
        dataset=dataset,
        threads=settings.threads(),
        waits=waits,
        device=settings.device,
        plugins=sendable(settings.plugins()),
        metric=settings.metric,
    )
    return tune.with_resources(trainable, PlacementGroupFactory([trial_resources(settings)]))


def placement(settings: SearchSettings, nodes: NodeWatch) -> PlacementGroupFactory | None:
    """Returns what a trial takes, of any node but those that failed their check; None while all are fit."""
    if not nodes.unfit:
        return None
    elsewhere: dict[str, Any] = {"bundle_label_selector": [not_on(nodes.unfit)]}
    return PlacementGroupFactory([trial_resources(settings)], **elsewhere)


def _trial_folder(trial: Any) -> str:
    return trial_folder(trial.config["trial"], trial.config["attempt"])
