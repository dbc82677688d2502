"""Finds how many trials the nodes of a cluster can run at once, and whether they can run one at all."""

from __future__ import annotations

import time
from functools import lru_cache

import ray

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError

REFRESH_SECONDS = 2.0  # Ray takes milliseconds to list its nodes, and is asked before every proposal


def max_concurrent_trials(settings: SearchSettings) -> int:
    """Returns how many trials may run at once: as set, or as many as the nodes have room for; nodes come and go."""
    if settings.max_concurrent is not None:
        return settings.max_concurrent
    return _trials_that_fit(settings, _recent_nodes(int(time.monotonic() / REFRESH_SECONDS)))


def decide_gpus(settings: SearchSettings) -> SearchSettings:
    """Gives each trial a GPU where a node has any, unless the settings specify GPUs, or another device."""
    if settings.gpus_per_trial is not None:
        return settings
    wants_gpu = settings.device == "cuda" or (settings.device == "auto" and _largest("GPU", _nodes()) >= 1)
    return settings.model_copy(update={"gpus_per_trial": 1.0 if wants_gpu else 0.0})


def check_resources(settings: SearchSettings) -> None:
    """Raises RequestError if the nodes can never run even one trial."""
    nodes = _nodes()
    if not any(node.get("CPU") for node in nodes):
        raise RequestError("no node of the cluster has CPUs for trials: start one, then try again")
    if settings.device == "cuda" and _largest("GPU", nodes) == 0:
        raise RequestError("device cuda needs a GPU, which no node has: use auto or cpu (--device)")
    for resource, key, wanted in (
        ("CPU", "cpus_per_trial", settings.cpus_per_trial),
        ("GPU", "gpus_per_trial", settings.gpus()),
    ):
        largest = _largest(resource, nodes)
        if wanted > largest:
            raise RequestError(
                f"{key} must be at most {largest:g}, the {resource}s of the largest node, got {wanted:g} "
                f"(--{key.replace('_', '-')})"
            )
    if _trials_that_fit(settings, nodes) == 0:
        raise RequestError(
            f"no single node has CPUs × {settings.cpus_per_trial:g} and GPUs × {settings.gpus():g} for a trial: "
            "ask for less (--cpus-per-trial, --gpus-per-trial)"
        )


def _trials_that_fit(settings: SearchSettings, nodes: list[dict[str, float]]) -> int:
    wanted = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus()}
    return sum(
        min(_fitting(node, resource, amount) for resource, amount in wanted.items() if amount) for node in nodes
    )


def _largest(resource: str, nodes: list[dict[str, float]]) -> float:
    return max((node.get(resource, 0.0) for node in nodes), default=0.0)


def _fitting(node: dict[str, float], resource: str, amount: float) -> int:
    """Returns for how many trials a node's resource is enough; a fraction of a GPU is of a single one."""
    available = node.get(resource, 0.0)
    if resource == "GPU" and amount < 1:
        return int(available) * int(1 / amount)
    return int(available / amount)


@lru_cache(maxsize=1)
def _recent_nodes(period: int) -> list[dict[str, float]]:
    """Returns the nodes, listed once a period."""
    return _nodes()


def _nodes() -> list[dict[str, float]]:
    """Returns the resources of every live node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
