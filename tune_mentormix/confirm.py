"""Confirming a search: its best configurations and the controls on fresh seeds, and the test set at the very end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainables.errors import DatasetError
from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.preflight import check_cluster
from tune_mentormix.config.settings import FORMAT
from tune_mentormix.confirmation_searcher import ConfirmationSearcher, rule_out_failed
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import retraining_settings
from tune_mentormix.experiment.experiment import Experiment, newest_checkpoint, read_experiment
from tune_mentormix.experiment.provenance import provenance
from tune_mentormix.recorder import Recorder, open_journal
from tune_mentormix.request import SearchRequest, stored_request
from tune_mentormix.results.confirmation import (
    CONFIRMATION_FOLDER,
    REQUEST_FILE,
    SEEDS,
    TOP_K,
    Confirmation,
    choose_candidates,
    confirmation_seeds,
    ranked_trials,
    read_confirmation,
)
from tune_mentormix.rungs import Rungs
from tune_mentormix.sealed_test import open_test_set
from tune_mentormix.storage.lease import hold_lease, refuse_if_held
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.yaml_files import write_yaml
from tune_mentormix.trial_runs import record_missing_ends, recorded_resources, run_trials

LEAST_SEEDS = 2  # of a single one no spread is known

Progress = Callable[[Confirmation], None]


def confirm_search(
    storage: Location,
    name: str,
    top_k: int | None,
    seeds: int | None,
    changes: dict[str, Any],
    progress: Progress,
    verbose: bool = False,
) -> Confirmation:
    """Confirms a search, or goes on with its confirmation; once nothing is left to run, opens the test set.

    The candidates are chosen when a confirmation begins, and stand. More seeds extend it, and then the test set is
    opened again; a complete confirmation is only read.

    Args:
        storage: the folder that holds experiments.
        name: the experiment's.
        top_k: how many of the best configurations; None: 5, or as before.
        seeds: how many; None: 5, or as before.
        changes: settings that may differ from the search's (`address`, resources, `time_budget`).
        progress: called with the confirmation after every event.
        verbose: whether Ray may talk.

    Raises:
        RequestError: if there is nothing to confirm, the data changed, a driver runs the search or its confirmation,
            or other candidates or fewer seeds are asked for than the confirmation was begun with.
    """
    _check_counts(top_k, seeds)
    experiment = read_experiment(storage, name)
    refuse_if_held(experiment.path)
    settings = retraining_settings(experiment, changes | {"storage": storage})
    confirmation = read_confirmation(experiment)
    if confirmation:
        refuse_if_held(confirmation.path)
        _check_extension(confirmation, top_k, seeds)
        if confirmation.opening and len(confirmation.seeds) == (seeds or len(confirmation.seeds)):
            return confirmation
    elif not ranked_trials(experiment):
        raise RequestError(f"{name} has no trial that ran to the end yet: there is nothing to confirm")
    request = stored_request(experiment, settings)
    with connection(settings.address, verbose):
        check_cluster(settings)
        path = experiment.path / CONFIRMATION_FOLDER
        path.mkdir(exist_ok=True)
        with hold_lease(path):
            confirmation = _begin_or_extend(experiment, request, top_k, seeds)
            _run(confirmation, request, progress)
    return confirmation


def _check_counts(top_k: int | None, seeds: int | None) -> None:
    for option, value, least in (("top-k", top_k, 1), ("seeds", seeds, LEAST_SEEDS)):
        if value is not None and value < least:
            raise RequestError(
                f"{option.replace('-', '_')} must be a whole number of at least {least}, got {value} (--{option})"
            )


def _check_extension(confirmation: Confirmation, top_k: int | None, seeds: int | None) -> None:
    if top_k not in (None, confirmation.top_k):
        raise RequestError(
            f"top_k must be {confirmation.top_k}, as this confirmation was begun, got {top_k} (--top-k); "
            f"to begin another, move {confirmation.path} away"
        )
    if seeds is not None and seeds < len(confirmation.seeds):
        raise RequestError(
            f"seeds must be at least {len(confirmation.seeds)}, as this confirmation was begun, got {seeds} (--seeds)"
        )


def _begin_or_extend(
    experiment: Experiment, request: SearchRequest, top_k: int | None, seeds: int | None
) -> Confirmation:
    """Writes the request, or a larger one; nobody else writes from here on."""
    confirmation = read_confirmation(experiment)
    if confirmation is None:
        confirmation = Confirmation(
            experiment.path / CONFIRMATION_FOLDER,
            experiment.settings,
            candidates=choose_candidates(experiment, request.control_settings(), top_k or TOP_K),
            seeds=confirmation_seeds(request.settings.seed, seeds or SEEDS),
            top_k=top_k or TOP_K,
            searched=experiment.ended_trials(),
        )
    elif seeds and seeds > len(confirmation.seeds):
        confirmation.seeds = confirmation_seeds(request.settings.seed, seeds)
    else:
        return confirmation
    values = {
        "format": FORMAT,
        "experiment": experiment.name,
        "top_k": confirmation.top_k,
        "seeds": confirmation.seeds,
        "searched": confirmation.searched,
        "candidates": [candidate.as_json() for candidate in confirmation.candidates],
        "provenance": provenance(request.dataset),
    }
    write_yaml(confirmation.path / REQUEST_FILE, values)
    return confirmation


def _run(confirmation: Confirmation, request: SearchRequest, progress: Progress) -> None:
    settings, dataset = request.settings, request.dataset
    rungs = Rungs()  # nobody is stopped early: every run counts in full
    with open_journal(confirmation) as journal:
        recorder = Recorder(journal, [confirmation])
        planned = confirmation.planned()
        resources = recorded_resources(settings)
        recorder.begin_run(run=confirmation.runs + 1, num_samples=planned, rungs=[], **resources)
        record_missing_ends(confirmation, rungs, settings.epochs, recorder)
        unfinished = [(run, newest_checkpoint(confirmation, run)) for run in confirmation.unfinished()]
        searcher = ConfirmationSearcher(confirmation, recorder, settings.threads(), unfinished)
        reason = run_trials(
            confirmation, recorder, searcher, rungs, settings, dataset, lambda _: progress(confirmation)
        )
        rule_out_failed(confirmation, recorder)
        if reason == "finished":
            reason = _test(confirmation, request)
        recorder.record("run_ended", run=confirmation.runs, reason=reason)
    progress(confirmation)


def _test(confirmation: Confirmation, request: SearchRequest) -> str:
    """Opens the test set if there is a winner; returns why the run ended."""
    winner = confirmation.winner()
    if winner is None or confirmation.opening:
        return "finished"
    try:
        open_test_set(confirmation, winner, request.settings, request.dataset)
    except DatasetError as error:
        confirmation.no_test = str(error)
    except KeyboardInterrupt:
        return "interrupted"
    return "finished"
