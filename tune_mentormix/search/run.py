"""Starting and resuming a search: everything is checked first, then one Tune run goes on the experiment's journal.

A resume is a new Tune run on the old journal. Replaying it rebuilds the study and the rungs; trials that ended stay
ended, unfinished ones are proposed again under their old numbers, each from its newest whole checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.preflight import check_cluster
from tune_mentormix.cluster.resources import decide_gpus
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.settings import SearchSettings, default_name
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import hold_new_experiment, resumed_settings
from tune_mentormix.experiment.events import RunEnded, replay
from tune_mentormix.experiment.experiment import (
    SEARCH_FILE,
    Experiment,
    experiment_path,
    newest_checkpoint,
    read_experiment,
)
from tune_mentormix.experiment.provenance import Provenance
from tune_mentormix.search.callbacks import open_journal
from tune_mentormix.search.plan import SearchRequest, check_request, stored_request
from tune_mentormix.search.proposals import MentorMixSearcher
from tune_mentormix.search.stopper import Patience
from tune_mentormix.search.study import SearchStudy
from tune_mentormix.search.tune_run import Progress, begin_run, record_missing_ends, run_trials
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import Location, check_new


def start_search(settings: SearchSettings, progress: Progress, verbose: bool = False) -> Experiment:
    """Runs a new search to its end, an interruption or its budget.

    Args:
        settings: checked; a missing name is made from the dataset and the time.
        progress: called with the experiment after every event.
        verbose: whether Ray may talk.

    Raises:
        RequestError: before anything is created, if the search cannot run as asked.
    """
    name = settings.name or default_name(settings)
    path = experiment_path(settings.storage, name)
    if (path / SEARCH_FILE).is_file():
        raise RequestError(f"{path} exists already; choose another --name, or resume it: resume {name}")
    check_new(path)
    request = check_request(settings.model_copy(update={"name": name}))
    with connection(settings.address, verbose):
        settings = decide_gpus(request.settings)
        check_cluster(settings)
        experiment = Experiment(path, settings, Provenance.collect(request.dataset))
        with hold_new_experiment(experiment, request.dataset):
            return _run(experiment, replace(request, settings=settings), progress)


def resume_search(
    storage: Location, name: str, changes: dict[str, Any], progress: Progress, verbose: bool = False
) -> Experiment:
    """Goes on with a search after any interruption, or extends a finished one.

    Args:
        storage: the folder, or the place in an object store, that holds experiments.
        name: the experiment's.
        changes: settings that may differ in this run (`num_samples`, `address`, resources, `time_budget`).
        progress: as in `start_search`.
        verbose: whether Ray may talk.

    Raises:
        RequestError: if there is no such experiment, another driver runs it, or its data changed.
    """
    with Lease(read_experiment(storage, name).path).acquire():
        experiment = read_experiment(storage, name)  # again: nobody else writes from here on
        settings = resumed_settings(experiment, storage, changes)
        request = stored_request(experiment, settings)
        with connection(settings.address, verbose):
            check_cluster(settings)
            return _run(experiment, request, progress)


def _run(experiment: Experiment, request: SearchRequest, progress: Progress) -> Experiment:
    settings, dataset = request.settings, request.dataset
    study = SearchStudy(request.space, settings.sampler, settings.seed)
    rungs = request.rungs()
    patience = Patience(settings.patience)
    experiment = Experiment(experiment.path, experiment.settings, experiment.provenance)
    with open_journal(experiment) as journal:
        handlers = experiment.apply, study.apply, rungs.apply, patience.apply
        replay(experiment.path / JOURNAL_FILE, *handlers)  # no other driver can add to it now
        journal.subscribe(*handlers)
        begin_run(experiment, journal, settings.num_samples, rungs.epochs, settings)
        record_missing_ends(experiment, rungs, settings.epochs, journal)
        searcher = MentorMixSearcher(
            experiment=experiment,
            journal=journal,
            study=study,
            space=request.space,
            common=settings.common_trial_settings(),
            threads=settings.threads(),
            controls=control_configs(dataset.noise_rate, len(dataset.class_names)),
            first_trials=settings.first_trials,
            unfinished=[(trial, newest_checkpoint(experiment, trial)) for trial in experiment.unfinished()],
            patience=patience,
        )
        reason = run_trials(experiment, journal, searcher, rungs, settings, dataset, progress)
        if reason == "finished" and len(experiment.trials) < settings.num_samples:
            reason = "patience" if patience.is_used_up else "exhausted"
        journal.record(RunEnded(run=experiment.runs, reason=reason))
    progress(experiment)
    return experiment
