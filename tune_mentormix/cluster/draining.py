"""Announces that a node is about to leave its cluster, and waits until the trials there have moved elsewhere.

Searches see that Ray drains the node: their trials there write a checkpoint after the epoch that they are in, and
continue on other nodes.
"""

from __future__ import annotations

import time
from typing import Any

import ray
import ray._private.state
import ray._private.worker
import ray.util.client
from ray.exceptions import RayError

from trainables.errors import one_line
from tune_mentormix.cluster.connection import connection
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError

POLL_SECONDS = 0.5
PREEMPTION = 2  # DRAIN_NODE_REASON_PREEMPTION of Ray's protocol


def drain_node(address: str, node_id: str | None, seconds: float) -> bool:
    """Tells Ray that a node goes in so many seconds, and waits as long for its trials to leave it.

    Args:
        address: of the cluster, as `connection` takes it.
        node_id: Ray's ID of the node; None: the one that runs on this machine.
        seconds: until the node goes.

    Returns:
        Whether nothing runs there any more.

    Raises:
        RequestError: if no cluster answers, it has no such node, or Ray refuses.
    """
    if address.startswith("ray://"):
        raise RequestError("drain takes a HOST:PORT of the cluster, or auto, and no ray:// address (--ray-address)")
    with connection(SearchSettings(address=address), verbose=False):
        node_id = node_id or ray.get_runtime_context().get_node_id()
        if node_id not in _live_nodes():
            raise RequestError(f"node_id must be the ID of a live node of the cluster, got {node_id!r} (--node-id)")
        client: Any = ray._private.worker.global_worker.gcs_client  # type: ignore[attr-defined]
        deadline = time.time() + seconds
        try:
            accepted, reason = client.drain_node(
                node_id, PREEMPTION, "the machine is about to go", int(deadline * 1000)
            )
        except (RayError, RuntimeError) as error:
            raise RequestError(f"node {node_id} cannot be drained: {one_line(error)}") from error
        if not accepted:
            raise RequestError(f"node {node_id} cannot be drained: {reason}")
        while _is_busy(node_id):
            if time.time() > deadline:
                return False
            time.sleep(POLL_SECONDS)
    return True


def draining_nodes() -> frozenset[str]:
    """Returns the IDs of the nodes that Ray drains; none where the driver is a client elsewhere (`ray://`)."""
    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        return frozenset()
    return frozenset(ray._private.state.state.get_draining_nodes())


def _is_busy(node_id: str) -> bool:
    """Whether trials hold CPUs or GPUs of the node."""
    total = _live_nodes().get(node_id, {})
    free = ray._private.state.available_resources_per_node().get(node_id, {})  # type: ignore[no-untyped-call]
    return any(free.get(resource, 0.0) < total.get(resource, 0.0) for resource in ("CPU", "GPU"))


def _live_nodes() -> dict[str, dict[str, float]]:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
