"""Finds how many trials the nodes of a cluster can run at once, and whether they can run one at all."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import ray

from tune_mentormix.cluster.connection import joins_cluster
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError

logger = logging.getLogger(__name__)


def trials_that_fit(settings: SearchSettings) -> int:
    """Returns how many trials may run at once: as many as the nodes have room for, at most `max_concurrent`."""
    return limited(settings, fitting_trials(settings, [node["Resources"] for node in live_nodes()]))


def limited(settings: SearchSettings, trials: int) -> int:
    """Returns the smaller of this number and `max_concurrent`."""
    return trials if settings.max_concurrent is None else min(trials, settings.max_concurrent)


def decide_gpus(settings: SearchSettings) -> SearchSettings:
    """Gives each trial a GPU where a node has any, unless the settings specify GPUs, or another device."""
    if settings.gpus_per_trial is not None:
        return settings
    has_gpu = _largest("GPU", [node["Resources"] for node in live_nodes()]) >= 1
    wants_gpu = settings.device == "cuda" or (settings.device == "auto" and has_gpu)
    if settings.device == "auto" and not has_gpu and joins_cluster(settings.address):
        logger.warning("no node has a GPU now, so trials train on CPUs; --gpus-per-trial 1 waits for GPUs to come")
    return settings.model_copy(update={"gpus_per_trial": 1.0 if wants_gpu else 0.0})


def check_resources(settings: SearchSettings) -> None:
    """Raises RequestError if the nodes can never run even one trial."""
    reason = why_no_trial_fits(settings)
    if reason:
        raise RequestError(reason)


def why_no_trial_fits(settings: SearchSettings) -> str | None:
    """Returns in one line why the present nodes cannot run even one trial, and what to ask for instead; or None."""
    nodes = [node["Resources"] for node in live_nodes()]
    if not any(node.get("CPU") for node in nodes):
        return "no node of the cluster has CPUs for trials: start one, then try again"
    if settings.device == "cuda" and _largest("GPU", nodes) == 0:
        return "device cuda needs a GPU, which no node has: use auto or cpu (--device)"
    for resource, wanted in trial_resources(settings).items():
        largest, key = _largest(resource, nodes), f"{resource.lower()}s_per_trial"
        if wanted > largest:
            return (
                f"{key} must be at most {largest:g}, the {resource}s of the largest node, got {wanted:g} "
                f"(--{key.replace('_', '-')})"
            )
    if fitting_trials(settings, nodes) == 0:
        return (
            f"no single node has CPUs × {settings.cpus_per_trial:g} and GPUs × {settings.gpus():g} for a trial: "
            "ask for less (--cpus-per-trial, --gpus-per-trial)"
        )
    return None


def trial_resources(settings: SearchSettings) -> dict[str, float]:
    """Returns what Ray is asked for, for one trial: `CPU`, and `GPU` if it takes any."""
    gpus = {"GPU": settings.gpus()} if settings.gpus() else {}
    return {"CPU": settings.cpus_per_trial} | gpus


def fitting_trials(settings: SearchSettings, nodes: Collection[dict[str, float]]) -> int:
    """Returns how many trials fit on nodes with these resources."""
    wanted = trial_resources(settings)
    return sum(min(_fitting(node, resource, amount) for resource, amount in wanted.items()) for node in nodes)


def live_nodes() -> list[dict[str, Any]]:
    """Returns every live node as Ray describes it: `NodeID`, `Resources`, its host's name and address."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _largest(resource: str, nodes: list[dict[str, float]]) -> float:
    return max((node.get(resource, 0.0) for node in nodes), default=0.0)


def _fitting(node: dict[str, float], resource: str, amount: float) -> int:
    """Returns for how many trials a node's resource is enough; a fraction of a GPU is of a single one."""
    available = node.get(resource, 0.0)
    if resource == "GPU" and amount < 1:
        return int(available) * int(1 / amount)
    return int(available / amount)
