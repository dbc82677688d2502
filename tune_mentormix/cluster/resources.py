"""Connecting to Ray and checking, before anything starts, that the trials can run there."""

from __future__ import annotations

import math
import time

import ray

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError

_LOOK_SECONDS = 2.0  # for which the nodes are taken to be the same


class Room:
    """How many trials may run at once: asked for, or as many as the nodes can run now, since nodes come and go."""

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._trials = 0
        self._looked_at = -math.inf

    def __call__(self) -> int:
        """As of a few seconds ago."""
        if self._settings.max_concurrent is not None:
            return self._settings.max_concurrent
        now = time.monotonic()
        if now - self._looked_at > _LOOK_SECONDS:
            self._trials, self._looked_at = trials_that_fit(self._settings), now
        return self._trials


def trials_that_fit(settings: SearchSettings) -> int:
    """How many trials the nodes can run at once."""
    wanted = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus()}
    return sum(
        min(_fitting(node, resource, amount) for resource, amount in wanted.items() if amount) for node in _nodes()
    )


def decide_gpus(settings: SearchSettings) -> SearchSettings:
    """Gives each trial a GPU where a node has any, if nothing was said about GPUs."""
    if settings.gpus_per_trial is not None:
        return settings
    has_gpus = any(node.get("GPU", 0.0) >= 1 for node in _nodes())
    return settings.model_copy(update={"gpus_per_trial": 1.0 if has_gpus else 0.0})


def check_resources(settings: SearchSettings) -> None:
    """Raises RequestError if the cluster can never run even one trial."""
    nodes = _nodes()
    for resource, key, wanted in (
        ("CPU", "cpus_per_trial", settings.cpus_per_trial),
        ("GPU", "gpus_per_trial", settings.gpus()),
    ):
        most = max(node.get(resource, 0.0) for node in nodes)
        if wanted > most:
            raise RequestError(
                f"{key} must be at most {most:g}, the {resource}s of the largest node, got {wanted:g} "
                f"(--{key.replace('_', '-')})"
            )
    if trials_that_fit(settings) == 0:
        raise RequestError(
            f"no single node has CPUs × {settings.cpus_per_trial:g} and GPUs × {settings.gpus():g} for a trial: "
            "ask for less (--cpus-per-trial, --gpus-per-trial)"
        )


def _fitting(node: dict[str, float], resource: str, amount: float) -> int:
    """How many trials a node's resource is enough for; a share of a GPU is of a single one."""
    has = node.get(resource, 0.0)
    if resource == "GPU" and amount < 1:
        return int(has) * int(1 / amount)
    return int(has / amount)


def _nodes() -> list[dict[str, float]]:
    """The resources of every live node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
