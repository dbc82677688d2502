"""Starts and resumes a search: everything is checked first, then one Tune run writes to the experiment's journal.

A resume is a new Tune run on the old journal. Replaying it rebuilds the study and the rungs; trials that ended stay
ended, unfinished ones are proposed again under their old numbers, each from its newest intact checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from tune_mentormix.cluster.autoscaling import wait_for_room
from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.nodes import prepare_nodes
from tune_mentormix.cluster.resources import decide_gpus
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.create import hold_new_experiment, resumed_settings
from tune_mentormix.experiment.events import replay
from tune_mentormix.experiment.experiment import Experiment, experiment_path, read_experiment
from tune_mentormix.experiment.provenance import Provenance
from tune_mentormix.search.forecast import Forecast
from tune_mentormix.search.plan import SearchRequest, new_request, stored_request
from tune_mentormix.search.proposals import search_proposals
from tune_mentormix.search.searcher import Run
from tune_mentormix.search.stopper import Plateau
from tune_mentormix.search.study import SearchStudy
from tune_mentormix.search.tune_run import Progress, run_experiment
from tune_mentormix.search.watching import Watch, watching
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import Location


def start_search(asked: SearchSettings | SearchRequest, progress: Progress, verbose: bool = False) -> Experiment:
    """Runs a new search to its end, an interruption or its budget; a missing name is made from dataset and time.

    `progress` is called with the experiment after every event. Raises RequestError, before anything is created, if
    the search cannot run with these settings.
    """
    request = asked if isinstance(asked, SearchRequest) else new_request(asked)
    with watching() as watch, connection(request.settings, verbose):
        wait_for_room(request.settings)
        settings = decide_gpus(request.settings)
        checked = prepare_nodes(settings, request.dataset)
        path = experiment_path(settings.storage, str(settings.name))
        experiment = Experiment(path, settings, Provenance.collect(request.dataset, settings))
        with hold_new_experiment(experiment, request.dataset):
            return _run(experiment, replace(request, settings=settings), checked, progress, watch)


def resume_search(
    storage: Location, name: str, changes: dict[str, Any], progress: Progress, verbose: bool = False
) -> Experiment:
    """Resumes a search after any interruption, or extends a finished one.

    `changes` are settings that may differ in this run: `num_samples`, budgets, resources, `address`. Raises
    RequestError if there is no such experiment, another driver runs it, or its data changed.
    """
    experiment = read_experiment(storage, name)
    lease = Lease(experiment.path)
    lease.check_free()
    request = stored_request(experiment, resumed_settings(experiment, storage, changes))
    with watching() as watch, connection(request.settings, verbose):
        wait_for_room(request.settings)
        checked = prepare_nodes(request.settings, request.dataset)
        with lease.acquire():
            experiment = read_experiment(storage, name)  # again: from here on, this process is the only writer
            settings = resumed_settings(experiment, storage, changes)  # it may have more trials by now
            return _run(experiment, replace(request, settings=settings), checked, progress, watch)


def _run(
    experiment: Experiment, request: SearchRequest, checked: Collection[str], progress: Progress, watch: Watch
) -> Experiment:
    settings = request.settings
    experiment = Experiment(experiment.path, experiment.settings, experiment.provenance)
    study = SearchStudy(request.space, settings.sampler, settings.seed, experiment.metric, settings.earlier_results)
    early_stopping = request.early_stopping()
    plateau = Plateau(settings.patience, experiment.metric)
    forecast = Forecast(experiment, settings.until_gain)
    handlers = [experiment.apply, study.apply, early_stopping.apply, plateau.apply]
    replay(experiment.path / JOURNAL_FILE, *handlers)

    def finish(run: Run, reason: str) -> str:
        forecast.complete(run.journal)
        if reason == "finished" and len(experiment.trials) < settings.num_samples:
            return "patience" if plateau.is_reached else "until_gain" if forecast.is_reached else "exhausted"
        return reason

    try:
        run_experiment(
            experiment,
            settings,
            request.dataset,
            checked,
            lambda run: search_proposals(run, study, request.space, plateau, forecast),
            early_stopping,
            handlers,
            watch.begin(experiment, progress),
            finish,
        )
    finally:
        watch.end(experiment)
    return experiment
