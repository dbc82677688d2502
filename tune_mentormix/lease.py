"""Who is running an experiment: a lease in its folder, renewed by the driver, that a dead driver cannot hold.

On the driver's own machine its process tells whether it lives; from another machine, the time of the last renewal.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from tune_mentormix.errors import RequestError
from tune_mentormix.yaml_files import write_atomically

LEASE_FILE = "lease.json"
RENEW_SECONDS = 5.0
EXPIRY_SECONDS = 60.0  # a network file system may lag, and clocks differ


def holder_of(experiment: Path) -> str | None:
    """Who runs the experiment, for a message (`process 4242 on host a`), or None."""
    try:
        lease = json.loads((experiment / LEASE_FILE).read_text())
        alive = _lives(lease)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return f"process {lease['pid']} on {lease['host']}" if alive else None


def refuse_if_held(experiment: Path) -> None:
    """Raises RequestError if a living driver holds the experiment."""
    holder = holder_of(experiment)
    if holder:
        raise RequestError(f"{experiment.name} is running already ({holder}); stop it there first")


@contextmanager
def hold_lease(experiment: Path) -> Iterator[None]:
    """Holds the experiment while the block runs, renewing in the background.

    Raises:
        RequestError: if a living driver holds it.
    """
    with FileLock(experiment / f".{LEASE_FILE}.lock"):
        refuse_if_held(experiment)
        _write(experiment)
    ended = threading.Event()
    renewer = threading.Thread(target=_renew, args=(experiment, ended), name="lease", daemon=True)
    renewer.start()
    try:
        yield
    finally:
        ended.set()
        renewer.join()
        (experiment / LEASE_FILE).unlink(missing_ok=True)


def _renew(experiment: Path, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        try:
            _write(experiment)
        except OSError:
            continue  # an unreachable storage: the next renewal may succeed, and the lease has a margin


def _write(experiment: Path) -> None:
    lease = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "renewed": time.time(),
    }
    write_atomically(experiment / LEASE_FILE, json.dumps(lease) + "\n")


def _lives(lease: dict[str, Any]) -> bool:
    if lease["host"] != socket.gethostname():
        return bool(time.time() - lease["renewed"] < EXPIRY_SECONDS)
    try:
        return bool(abs(psutil.Process(lease["pid"]).create_time() - lease["process_started"]) < 1)
    except psutil.NoSuchProcess:
        return False
