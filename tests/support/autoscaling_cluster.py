"""A Ray cluster on this machine whose autoscaler starts and ends nodes, each with one CPU and one pretended GPU.

Ray's own `AutoscalingCluster` ends every Ray on the machine before it starts; this one ends only its own processes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG

from tests.support.fake_cloud import FakeCloud
from tests.support.jobs_cluster import LOOPBACK, OBJECT_STORE_BYTES, REPOSITORY, JobsCluster


class AutoscalingCluster(JobsCluster):
    """A head that runs no trials and takes jobs; at most `max_workers` nodes come when they are asked for."""

    def __init__(self, max_workers: int, idle_minutes: float = 5.0) -> None:
        """Starts the head alone; a node goes after `idle_minutes` without work."""
        self._max_workers, self._idle_minutes = max_workers, idle_minutes
        super().__init__(cpus=0)

    @property
    def ray_address(self) -> str:
        """Returns what a driver joins."""
        return f"{LOOPBACK}:{self._port}"

    def workers(self) -> list[psutil.Process]:
        """Returns the raylets of the nodes that the autoscaler started, oldest first."""
        raylets = []
        for process in self._descendants():
            with suppress(psutil.NoSuchProcess):
                if process.name() == "raylet" and "--head" not in process.cmdline():
                    raylets.append(process)
        return sorted(raylets, key=lambda process: process.create_time())

    def worker_ids(self) -> list[str]:
        """Returns Ray's IDs of these nodes, in the same order."""
        found = []
        for raylet in self.workers():
            options = dict(word.removeprefix("--").split("=", 1) for word in raylet.cmdline() if "=" in word)
            found.append(options["node_id"])
        return found

    def kill_worker(self, raylet: psutil.Process) -> None:
        """Ends a node at once, with all its processes."""
        for process in [*raylet.children(recursive=True), raylet]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    @contextmanager
    def sold_out(self) -> Iterator[None]:
        """No node comes as long as this block lasts."""
        self._sold_out.touch()
        yield
        self._sold_out.unlink()

    def kill(self) -> None:
        """Ends all processes of the cluster, those of the autoscaler's nodes too."""
        descendants = self._descendants()
        super().kill()
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(descendants, timeout=10)

    def _descendants(self) -> list[psutil.Process]:
        found = []
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(process.pid).children(recursive=True)
        return found

    def _head_options(self) -> list[str]:
        folder = Path(tempfile.mkdtemp(prefix="tma-", dir="/tmp"))
        self._folders.append(folder)
        self._sold_out = folder / "sold-out"
        provider = {
            **{"type": "external", "module": f"{FakeCloud.__module__}.FakeCloud", "gcs_address": self.ray_address},
            **{"use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True},
            **{"foreground_node_launch": True, "sold_out": str(self._sold_out)},
        }
        worker = {
            "resources": {"CPU": 1, "GPU": 1, "object_store_memory": OBJECT_STORE_BYTES},
            **{"node_config": {}, "min_workers": 0, "max_workers": self._max_workers},
        }
        head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        config: dict[str, Any] = {
            **BASE_READONLY_CONFIG,
            "provider": provider,
            "max_workers": self._max_workers,
            "idle_timeout_minutes": self._idle_minutes,
            "upscaling_speed": 10.0,
            "available_node_types": {"ray.head.default": head, "worker": worker},
        }
        self._node_environment = {
            **{"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"},
            "PYTHONPATH": str(REPOSITORY),
        }
        path = folder / "autoscaling.json"
        path.write_text(json.dumps(config))
        return [f"--autoscaling-config={path}"]
