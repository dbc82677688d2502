"""A service in a separate process, without a cluster: for what only a real server shows."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import psutil

from tests.service.conftest import ADMIN, READ, RUN, bearer
from tests.support.patience import PATIENCE_SECONDS

_CODE = """
import json, sys, uvicorn
from tests.support.in_memory_jobs import InMemoryJobs
from tune_mentormix.service.app import make_app
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.service.request_logging import log_as_json
from tune_mentormix.service.server import uvicorn_options
from tune_mentormix.service.auth import Principal, Tokens
log_as_json()
owners = [Principal("reader", "read"), Principal("runner", "run"), Principal("boss", "admin")]
tokens = Tokens(zip(owners, sys.argv[3:6]))
settings = {"storage": sys.argv[1], "requests_per_second": 1e6, "burst": 10**9, "max_jobs": 10**6}
server = ServerSettings.model_validate(settings | json.loads(sys.argv[6]))
app = make_app(server, tokens, InMemoryJobs())
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), **uvicorn_options(server))
"""


@dataclass(frozen=True)
class ServedProcess:
    """Where it answers, and the process."""

    url: str
    port: int
    process: psutil.Process

    def get(self, path: str, token: str = READ) -> httpx.Response:
        """A GET with a token."""
        return httpx.get(self.url + path, headers=bearer(token), timeout=30)

    def resident_megabytes(self) -> float:
        """What the process takes of memory."""
        return float(self.process.memory_info().rss) / 2**20


@contextmanager
def served_process(storage: Path, log: Path, **settings: object) -> Iterator[ServedProcess]:
    """Serves with its own settings until the block is left; the log goes to a file."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with log.open("wb") as stream:
        arguments = [sys.executable, "-c", _CODE, str(storage), str(port), READ, RUN, ADMIN, json.dumps(settings)]
        process = subprocess.Popen(arguments, stderr=stream, stdout=stream)
        try:
            served = ServedProcess(f"http://127.0.0.1:{port}", port, psutil.Process(process.pid))
            _wait_for(served, process)
            yield served
        finally:
            process.terminate()
            process.wait(20)


def _wait_for(served: ServedProcess, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the service ended"
        try:
            if served.get("/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the service does not answer")
