"""A Ray cluster on this machine alone that takes jobs, in token mode; every process of it is our own child."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.patience import PATIENCE_SECONDS

REPOSITORY = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 80_000_000
QUIET_PORTS = range(20_000, 32_000)  # Ray's workers take lower ones, outgoing connections higher ones


class JobsCluster:
    """A head and perhaps further nodes; the head can be killed and started again with nothing remembered."""

    def __init__(self, cpus: int = 2, nodes: int = 0) -> None:
        """Starts the head with `cpus`, and nodes with one CPU each. Raises TimeoutError if that takes too long."""
        self.token = secrets.token_hex(16)
        self._cpus, self._nodes = cpus, nodes
        self._port, self._dashboard_port, *self._others = free_ports(5)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folders: list[Path] = []
        self._node_environment: dict[str, str] = {}
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Of the dashboard, and the Jobs API."""
        return f"http://{LOOPBACK}:{self._dashboard_port}"

    def environment(self, **changes: str) -> dict[str, str]:
        """Of a process that may use the cluster."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        ours = {"PATH": f"{Path(sys.executable).parent}:{inherited['PATH']}", "RAY_API_SERVER_ADDRESS": self.address}
        return inherited | token | ours | {"OMP_NUM_THREADS": "1"} | changes

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of ours on the user's machine, against this cluster."""
        return subprocess.run(
            [sys.executable, "run_search.py", *command],
            cwd=REPOSITORY,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=90,
        )

    def start(self) -> None:
        """Starts the head, waits for its dashboard, then starts the nodes."""
        client, listen, grpc = self._others
        self._ray_start(
            "--head",
            f"--port={self._port}",
            "--include-dashboard=true",
            f"--dashboard-host={LOOPBACK}",
            f"--dashboard-port={self._dashboard_port}",
            f"--ray-client-server-port={client}",
            f"--dashboard-agent-listen-port={listen}",
            f"--dashboard-agent-grpc-port={grpc}",
            f"--num-cpus={self._cpus}",
            *self._head_options(),
            own_folder=True,
        )
        self._wait_until_jobs_run()
        for _ in range(self._nodes):
            listen, grpc = free_ports(2)
            agent = (f"--dashboard-agent-listen-port={listen}", f"--dashboard-agent-grpc-port={grpc}")
            self._ray_start(f"--address={LOOPBACK}:{self._port}", "--num-cpus=1", *agent)

    def _head_options(self) -> list[str]:
        """Returns further options of `ray start` for the head."""
        return []

    def kill(self) -> None:
        """Ends all processes of the cluster, and with them all that Ray knows."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def close(self) -> None:
        """As `kill`, and leaves no files behind."""
        self.kill()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _ray_start(self, *options: str, own_folder: bool = False) -> None:
        folder = Path(tempfile.mkdtemp(prefix="tmj-", dir="/tmp"))  # short: it holds sockets
        self._folders.append(folder)
        # Ray's own ports listen on the machine's address whatever it is told: the token is what keeps others out.
        command = ["ray", "start", "--block", "--disable-usage-stats", "--num-gpus=0"]
        command += [f"--node-ip-address={LOOPBACK}", f"--object-store-memory={OBJECT_STORE_BYTES}", *options]
        if own_folder:
            command.append(f"--temp-dir={folder}")
        environment = {n: v for n, v in self.environment().items() if n != "RAY_API_SERVER_ADDRESS"}
        environment |= self._node_environment
        with (folder / "output").open("wb") as output:
            self._processes.append(
                subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
            )

    def _wait_until_jobs_run(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self._processes[0].poll() is None, (self._folders[-1] / "output").read_text()
            try:
                with urlopen(f"{self.address}/api/authentication_mode", timeout=2) as answer:
                    mode: dict[str, Any] = json.load(answer)
                assert mode == {"authentication_mode": "token"}
                return
            except (URLError, OSError):
                time.sleep(0.5)
        raise TimeoutError(f"no dashboard at {self.address}: {(self._folders[-1] / 'output').read_text()}")


def free_ports(count: int) -> list[int]:
    """Different ports on which nothing listens, of a range from which neither the system nor Ray takes any."""
    ports: list[int] = []
    candidates = random.sample(QUIET_PORTS, len(QUIET_PORTS))
    while len(ports) < count:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, candidates.pop()))
            ports.append(probe.getsockname()[1])
    return ports
