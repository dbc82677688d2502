"""A Ray cluster on this machine alone: a head that runs no trials, and nodes with one pretended GPU each.

A node is a set of processes; killing them is what a machine that goes away looks like to Ray.
"""

from __future__ import annotations

import logging
import os
import random
import signal
from contextlib import suppress
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from tests.support.worker_processes import worker_processes

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 80_000_000


class LocalCluster:
    """Started when made; `close` ends every process of it."""

    def __init__(self, nodes: int) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head | self._common())
        for _ in range(nodes):
            self.add_node()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_node(self) -> None:
        self._cluster.add_node(num_cpus=1, num_gpus=1, **self._common())

    def kill_node(self, rng: random.Random) -> bool:
        """Kills all processes of a node that trains, as if its machine had gone, and adds a new node."""
        nodes = sorted({node for _, node in self._training()}, key=_raylet)
        if not nodes:
            return False
        self.remove_node(rng.choice(nodes))
        self.add_node()
        return True

    def kill_worker(self, rng: random.Random) -> bool:
        """Kills a process that trains; False if there is none at the moment."""
        training = self._training()
        try:
            rng.choice(training)[0].kill()
        except (IndexError, psutil.NoSuchProcess):  # none, or it ended just now
            return False
        return True

    def freeze_node(self) -> Any:
        """Stops what takes a node's tasks, of which Ray learns only later; returns the node."""
        node = min(self._cluster.worker_nodes, key=_raylet)
        os.kill(_raylet(node), signal.SIGSTOP)
        return node

    def remove_node(self, node: Any) -> None:
        """Kills all processes of a node."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()  # type: ignore[no-untyped-call]

    def _training(self) -> list[tuple[psutil.Process, Any]]:
        """The processes that train on this cluster, and not on another Ray of this process, each with its node."""
        nodes = {_raylet(node): node for node in self._cluster.worker_nodes}
        training = []
        for worker in worker_processes():
            with suppress(psutil.NoSuchProcess):
                if worker.ppid() in nodes:
                    training.append((worker, nodes[worker.ppid()]))
        return training

    @staticmethod
    def _common() -> dict[str, Any]:
        return {"node_ip_address": LOOPBACK, "object_store_memory": OBJECT_STORE_BYTES}


def _raylet(node: Any) -> int:
    """The process of which a node's workers are children."""
    return int(node.all_processes["raylet"][0].process.pid)
