"""Trains an ablation; what it is, and how it is read back, stands in `ablation`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.preflight import check_cluster
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import retraining_settings
from tune_mentormix.experiment.events import EventJournal, RunEnded, replay
from tune_mentormix.experiment.experiment import Experiment, Trial, newest_checkpoint, read_experiment
from tune_mentormix.results.ablation import ablated_configs, empty_ablation
from tune_mentormix.search.callbacks import open_journal
from tune_mentormix.search.early_stopping import Rungs
from tune_mentormix.search.plan import SearchRequest, stored_request
from tune_mentormix.search.proposals import start_trial
from tune_mentormix.search.tune_run import Progress, begin_run, record_missing_ends, run_trials
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import Location


class PlannedSearcher(Searcher):
    """Proposes trials from a list: those left unfinished first."""

    def __init__(
        self, experiment: Experiment, journal: EventJournal, threads: int, planned: list[tuple[Trial, str | None]]
    ) -> None:
        """`planned` holds each trial with the folder of the checkpoint to go on from, if any."""
        super().__init__()
        self._experiment = experiment
        self._journal = journal
        self._threads = threads
        self._planned = list(planned)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # FINISHED is a string
        """The next trial as Tune hands it to the trainable, or FINISHED."""
        if not self._planned:
            return str(Searcher.FINISHED)
        trial, checkpoint = self._planned.pop(0)
        return start_trial(self._journal, trial, self._experiment.runs, self._threads, checkpoint)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the journal says how a trial ended."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""


def run_ablation(
    storage: Location, name: str, progress: Progress, verbose: bool = False, address: str | None = None
) -> Experiment:
    """Trains what is left of the best trial's ablation.

    Args:
        storage: the folder that holds experiments.
        name: the experiment's.
        progress: called with the ablation after every event.
        verbose: whether Ray may talk.
        address: of a cluster to join; None: as the search did.

    Raises:
        RequestError: if no trial ran to the end yet, the data changed, or another driver runs the ablation.
    """
    experiment = read_experiment(storage, name)
    best = experiment.best()
    if best is None or best.state != "finished":
        raise RequestError(f"{name} has no trial that ran to the end yet: there is nothing to move back (--ablate)")
    settings = retraining_settings(experiment, {"storage": storage, "address": address})
    request = stored_request(experiment, settings)
    published = request.control_settings()["published"]
    configs = ablated_configs(best.config, published, list(request.space.distributions))
    ablation = empty_ablation(experiment, best)
    with connection(settings.address, verbose):
        check_cluster(settings)
        ablation.path.mkdir(parents=True, exist_ok=True)
        with Lease(ablation.path).acquire():
            _run(ablation, configs, request, progress)
    return ablation


def _run(ablation: Experiment, configs: list[dict[str, Any]], request: SearchRequest, progress: Progress) -> None:
    settings = request.settings
    replay(ablation.path / JOURNAL_FILE, ablation.apply)
    rungs = Rungs()  # every run counts in full
    with open_journal(ablation) as journal:
        journal.subscribe(ablation.apply)
        begin_run(ablation, journal, len(configs), [], settings)
        record_missing_ends(ablation, rungs, settings.epochs, journal)
        planned: list[tuple[Trial, str | None]] = [
            (replace(trial, attempt=trial.attempt + 1), newest_checkpoint(ablation, trial))
            for trial in ablation.unfinished()
        ]
        planned += [(Trial(n, config), None) for n, config in enumerate(configs) if n not in ablation.trials]
        searcher = PlannedSearcher(ablation, journal, settings.threads(), planned)
        reason = run_trials(ablation, journal, searcher, rungs, settings, request.dataset, progress)
        journal.record(RunEnded(run=ablation.runs, reason=reason))
