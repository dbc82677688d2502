"""Watches the nodes of a cluster during a run: those that join are checked, those about to leave get no new trials.

A node is about to leave while Ray drains it: an autoscaler takes it back, or someone told Ray that its machine is
about to be taken away (see `draining`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ray.exceptions import RayError

from trainables.data import Dataset
from trainables.errors import one_line
from tune_mentormix.cluster.autoscaling import NodeRequests
from tune_mentormix.cluster.connection import joins_cluster
from tune_mentormix.cluster.draining import draining_nodes
from tune_mentormix.cluster.images import prepare_images
from tune_mentormix.cluster.preflight import ListNodes, check_cluster, check_nodes, node_names
from tune_mentormix.cluster.resources import fitting_trials, limited, live_nodes
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError

POLL_SECONDS = 2.0
CHECKS = 3  # of a node that joins, before it is not used: it may still be starting
CHECK_AGAIN_SECONDS = 5.0

logger = logging.getLogger(__name__)


def prepare_nodes(settings: SearchSettings, dataset: Dataset, list_nodes: ListNodes | None = None) -> frozenset[str]:
    """Checks the nodes of the cluster, or only those listed, and has images decoded there; returns their IDs.

    Raises RequestError that names the node which cannot run trials, and why.
    """
    if list_nodes is None:
        checked = check_cluster(settings)
        prepare_images(settings, dataset, lambda: {key: name for key, name in node_names().items() if key in checked})
    else:
        checked = check_nodes(settings, list_nodes)
        prepare_images(settings, dataset, list_nodes)
    return checked


@contextmanager
def watch_nodes(settings: SearchSettings, dataset: Dataset, checked: Collection[str]) -> Iterator[NodeWatch]:
    """While the block runs, watches the nodes; those in `checked`, by ID, are prepared already."""
    watch = NodeWatch(settings, checked, lambda list_nodes: prepare_nodes(settings, dataset, list_nodes))
    if joins_cluster(settings.address):
        watch.start()
    try:
        yield watch
    finally:
        watch.stop()


class NodeCounts(NamedTuple):
    """How many nodes trials may use, how many trials have room there, and how many wait for further nodes."""

    nodes: int
    room: int
    waiting: int


class NodeWatch(threading.Thread):
    """The nodes that trials of a run may use, in a thread of its own: checking one takes seconds.

    Attributes:
        wanted: trials that are not ended yet; for those without room, further nodes are asked for.
        counts: as of the last look.
        unfit: IDs of the nodes that failed their check.
    """

    def __init__(
        self, settings: SearchSettings, checked: Collection[str], check: Callable[[ListNodes], object]
    ) -> None:
        """Begins with the nodes that were checked already, by ID.

        `check` raises RequestError unless the nodes that it is given can run trials.
        """
        super().__init__(name="nodes", daemon=True)
        self.wanted = settings.num_samples
        self.unfit: frozenset[str] = frozenset()
        self._settings = settings
        self._fit = set(checked)
        self._seen = set(checked)
        self._leaving: frozenset[str] = frozenset()
        self._check = check
        self._requests = NodeRequests(settings)
        self._stopped = threading.Event()
        self.counts = self._count()

    def room(self) -> int:
        """Returns how many trials may run at once."""
        return limited(self._settings, self.counts.room)

    def is_leaving(self, node_id: str) -> bool:
        """Whether a node is about to go, so that its trials should continue elsewhere."""
        return node_id in self._leaving

    def run(self) -> None:
        """Looks at the nodes until `stop` is called."""
        while not self._stopped.wait(POLL_SECONDS):
            try:
                self._admit_new_ones()
                self.counts = self._count()
                self._requests.ask(self.counts.waiting, node_names())
            except (RayError, RuntimeError, TimeoutError):  # the head of a cluster may be away for a moment
                logger.debug("the nodes could not be listed", exc_info=True)

    def stop(self) -> None:
        """Ends the thread and takes back what was asked for."""
        self._stopped.set()
        if self.is_alive():
            self.join(POLL_SECONDS)
        try:
            self._requests.close()
        except (RayError, RuntimeError):  # the cluster is gone, and its requests with it
            logger.debug("requests for nodes were not taken back", exc_info=True)

    def _admit_new_ones(self) -> None:
        names = node_names()
        for node_id in names.keys() - self._seen:
            self._seen.add(node_id)
            threading.Thread(target=self._admit, args=(node_id, names[node_id]), daemon=True).start()

    def _count(self) -> NodeCounts:
        self._leaving = draining_nodes()
        usable = [node for node in live_nodes() if node["NodeID"] in self._fit - self._leaving]
        room = fitting_trials(self._settings, [node["Resources"] for node in usable])
        return NodeCounts(len(usable), room, max(0, limited(self._settings, self.wanted) - room))

    def _admit(self, node_id: str, name: str) -> None:
        """Checks a node that joined, again where it may not have been ready yet, and uses it if it is fit."""
        problem: RequestError | None = None
        for _ in range(CHECKS):
            try:
                if node_id not in node_names():
                    return
                self._check(lambda: {node_id: name} if node_id in node_names() else {})
            except RequestError as error:
                problem = error
            except (RayError, RuntimeError) as error:
                problem = RequestError(f"the check of node {name} was cut off: {one_line(error)}")
            else:
                self._fit.add(node_id)
                return
            if self._stopped.wait(CHECK_AGAIN_SECONDS):
                return
        self.unfit |= {node_id}
        logger.warning("%s: trials do not use it", problem)
