"""Asks a cluster for nodes that are not there yet, and waits for the first of them.

Ray's autoscaler starts nodes for what cannot be placed. Tune asks for no more trials than fit, so what else could run
is asked for here, as placement groups: Ray drops them when this process ends. They name the nodes that are there as
those where they must not go, so they take nothing from trials; one that gets a place on a new node has done its work.
On a cluster without an autoscaler they wait in vain, and cost nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group

from tune_mentormix.cluster.connection import joins_cluster
from tune_mentormix.cluster.resources import live_nodes, trial_resources, why_no_trial_fits
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.formatting import format_duration

POLL_SECONDS = 1.0  # between two looks at the nodes
MAX_PENDING = 64  # requests at once; further ones follow as nodes come
_NODE_ID = "ray.io/node-id"  # the label that Ray gives each node

logger = logging.getLogger(__name__)


class NodeRequests:
    """The requests of one search for nodes with room for a trial, pending until such nodes come."""

    def __init__(self, settings: SearchSettings) -> None:
        """Asks for nothing yet."""
        self._resources = trial_resources(settings)
        self._pending: list[Any] = []
        self._known: frozenset[str] = frozenset()

    def ask(self, trials: int, known: Collection[str]) -> None:
        """Asks for room for so many further trials, outside of the nodes with these IDs."""
        if frozenset(known) != self._known:  # the ones before may be placed on what has come
            self.close()
            self._known = frozenset(known)
        trials = min(trials, MAX_PENDING)
        while len(self._pending) > trials:
            remove_placement_group(self._pending.pop())
        elsewhere = [not_on(self._known)] if self._known else None
        while len(self._pending) < trials:
            self._pending.append(placement_group([self._resources], bundle_label_selector=elsewhere))

    def close(self) -> None:
        """Takes all requests back."""
        while self._pending:
            remove_placement_group(self._pending.pop())


def not_on(nodes: Collection[str]) -> dict[str, str]:
    """Returns Ray's label selector for all nodes but those with these IDs."""
    return {_NODE_ID: f"!in({','.join(sorted(nodes))})"}


def wait_for_room(settings: SearchSettings) -> None:
    """Waits, on a cluster that was joined, until a node has room for a trial, and asks the autoscaler for some.

    Says so in one line. Raises RequestError if none comes within `wait_for_nodes`, at once without a cluster.
    """
    if settings.gpus_per_trial is None and settings.device == "cuda":
        settings = settings.model_copy(update={"gpus_per_trial": 1.0})
    reason = why_no_trial_fits(settings)
    if reason is None:
        return
    if not joins_cluster(settings.address):
        raise RequestError(reason)
    patience = format_duration(settings.wait_for_nodes)
    problem = reason.partition(":")[0]
    logger.warning("%s: waiting up to %s for a node with room for a trial (--wait-for-nodes)", problem, patience)
    started = time.monotonic()
    trials = min(settings.max_concurrent or settings.num_samples, settings.num_samples)
    with _requests(settings) as requests:
        while reason := why_no_trial_fits(settings):
            if time.monotonic() - started > settings.wait_for_nodes:
                raise RequestError(f"{reason}. No such node came within {patience} (--wait-for-nodes)")
            requests.ask(trials, [node["NodeID"] for node in live_nodes()])
            time.sleep(POLL_SECONDS)
    logger.warning("a node with room for a trial came after %s", format_duration(time.monotonic() - started))


@contextmanager
def _requests(settings: SearchSettings) -> Iterator[NodeRequests]:
    requests = NodeRequests(settings)
    try:
        yield requests
    finally:
        try:
            requests.close()
        except RayError:  # the cluster is gone, and its requests with it
            logger.debug("requests for nodes were not taken back", exc_info=True)
