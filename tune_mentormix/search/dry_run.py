"""A search checked as if it were started, with an estimate of its cost; nothing is created."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from trainables.plugins import with_plugins
from trainables.settings import TrialSettings
from trainables.training import time_one_epoch
from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.nodes import prepare_nodes
from tune_mentormix.cluster.resources import decide_gpus, trials_that_fit
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import SearchFailedError
from tune_mentormix.search.plan import SearchRequest


@dataclass(frozen=True)
class DryRun:
    """A search as it would be, and about what it would cost."""

    request: SearchRequest  # its settings with the GPUs that a trial would have
    parameters: int  # of the network
    epoch_seconds: float  # of one epoch in one trial, measured
    concurrent: int  # trials at the same time

    @property
    def max_epochs(self) -> int:
        """Epochs of all trials if none is stopped early."""
        settings = self.request.settings
        in_full = settings.num_samples * settings.epochs
        return min(in_full, settings.epoch_budget or in_full)

    @property
    def expected_epochs(self) -> int:
        """Epochs of all trials if early stopping lets the best 1 in `reduction_factor` continue at every rung."""
        settings = self.request.settings
        full = min(len(settings.controls), settings.num_samples)
        epochs, reached, fraction = 0.0, 0, 1.0
        for rung in [*self.request.early_stopping().rungs, settings.epochs]:
            epochs += fraction * (rung - reached)
            reached, fraction = rung, fraction / settings.reduction_factor
        return min(self.max_epochs, round(full * settings.epochs + (settings.num_samples - full) * epochs))

    def seconds(self, epochs: int) -> float:
        """Returns how many seconds so many epochs of all trials take."""
        return epochs * self.epoch_seconds / self.concurrent


def dry_run(request: SearchRequest, verbose: bool = False) -> DryRun:
    """Checks what a search needs and trains one epoch of the published setting, where a trial would run.

    Raises RequestError if the cluster cannot run it, and SearchFailedError if the epoch fails.
    """
    with connection(request.settings, verbose):
        settings = decide_gpus(request.settings)
        prepare_nodes(settings, request.dataset)
        concurrent = min(settings.num_samples, trials_that_fit(settings))
        parameters, seconds = _measure(settings, request)
    return DryRun(SearchRequest(settings, request.space, request.dataset), parameters, seconds, concurrent)


def _measure(settings: SearchSettings, request: SearchRequest) -> tuple[int, float]:
    """Times one epoch with the resources of a trial."""
    values = control_configs(["published"], len(request.dataset.class_names))["published"]
    published = TrialSettings(**(settings.common_trial_settings() | request.space.fixed | values)).model_dump()
    task = ray.remote(with_plugins(time_one_epoch, settings.plugins())).options(
        num_cpus=settings.cpus_per_trial, num_gpus=settings.gpus(), max_retries=0
    )
    try:
        measured: tuple[int, float] = ray.get(
            task.remote(published, request.dataset, settings.threads(), settings.device)
        )
    except ray.exceptions.RayError as error:
        reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
        raise SearchFailedError(f"an epoch of the published setting failed: {reason}") from error
    return measured
