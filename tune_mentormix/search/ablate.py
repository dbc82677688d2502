"""Trains an ablation; what it is, and how it is read back, stands in `ablation`."""

from __future__ import annotations

from typing import Any

from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.preflight import check_cluster
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import retraining_settings
from tune_mentormix.experiment.events import replay
from tune_mentormix.experiment.experiment import Experiment, Trial, read_experiment
from tune_mentormix.results.ablation import ablated_configs, empty_ablation
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving
from tune_mentormix.search.plan import SearchRequest, stored_request
from tune_mentormix.search.searcher import TrialStart
from tune_mentormix.search.tune_run import Progress, run_experiment
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import Location


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
    replay(ablation.path / JOURNAL_FILE, ablation.apply)
    planned = [TrialStart(Trial(n, config)) for n, config in enumerate(configs) if n not in ablation.trials]
    run_experiment(
        ablation,
        request.settings.model_copy(update={"num_samples": len(configs)}),
        request.dataset,
        lambda run: iter([*run.unfinished, *planned]),
        AsyncSuccessiveHalving(),  # without rungs: every run counts in full
        [ablation.apply],
        progress,
        lambda run, reason: reason,
    )
