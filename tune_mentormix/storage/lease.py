"""Who is running an experiment: a lease in its folder, renewed by the driver, that a dead driver cannot hold.

On the driver's own machine its process tells whether it lives; from another machine or container,
the time of the last renewal.

On a disk a file lock lets one driver at a time look and write. An object store has no lock, and `pyarrow` no "write
unless it is there": a driver writes its lease, waits, and goes on if it is still its own. That lets one driver
through as long as none takes longer than the wait between looking and writing. A driver that was cut off for longer
than a lease lasts finds, as soon as it writes to the journal, that another took over: the journal is the fence.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from filelock import FileLock

from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, RemotePath
from tune_mentormix.storage.yaml_files import write_atomically

LEASE_FILE = "lease.json"
RENEW_SECONDS = 5.0
EXPIRY_SECONDS = 60.0  # a network file system may lag, and clocks differ
SETTLE_SECONDS = 1.0  # between writing a lease to an object store and believing it
SAME_BOOT_SECONDS = 5.0  # machines may share a name; a machine's own boot time moves when its clock is set


def holder_of(experiment: Location) -> str | None:
    """Who runs the experiment, for a message (`process 4242 on host a`), or None."""
    try:
        return _holder(experiment)
    except OSError:
        return None


def refuse_if_held(experiment: Location) -> None:
    """Raises RequestError if a living driver holds the experiment, or nobody can say: its lease cannot be read."""
    try:
        holder = _holder(experiment)
    except OSError as error:
        raise RequestError(f"{experiment / LEASE_FILE} cannot be read: {error.strerror} (--storage)") from error
    if holder:
        raise RequestError(f"{experiment.name} is running already ({holder}); stop it there first")


@contextmanager
def hold_lease(experiment: Location) -> Iterator[None]:
    """Holds the experiment while the block runs, renewing in the background.

    Raises:
        RequestError: if a living driver holds it, or the lease cannot be written.
    """
    token = secrets.token_hex(8)
    try:
        _acquire(experiment, token)
    except OSError as error:
        raise RequestError(f"{experiment} cannot be written: {error.strerror} (--storage)") from error
    ended = threading.Event()
    renewer = threading.Thread(target=_renew, args=(experiment, token, ended), name="lease", daemon=True)
    renewer.start()
    try:
        yield
    finally:
        ended.set()
        renewer.join()
        with suppress(OSError):  # an unreachable storage: the lease expires by itself
            if _holds(experiment, token):
                (experiment / LEASE_FILE).unlink(missing_ok=True)


def _holder(experiment: Location) -> str | None:
    try:
        lease = _read(experiment)
        return f"process {lease['pid']} on {lease['host']}" if _lives(lease) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _acquire(experiment: Location, token: str) -> None:
    if not isinstance(experiment, RemotePath):
        with FileLock(experiment / f".{LEASE_FILE}.lock"):
            refuse_if_held(experiment)
            _write(experiment, token)
        return
    refuse_if_held(experiment)
    _write(experiment, token)
    time.sleep(SETTLE_SECONDS)
    if not _holds(experiment, token):
        refuse_if_held(experiment)
        raise RequestError(f"{experiment.name} was started by another process at the same moment")


def _renew(experiment: Location, token: str, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        try:
            if not _holds(experiment, token):
                return  # taken over while this driver was cut off; the journal tells the driver
            _write(experiment, token)
        except OSError:
            continue  # an unreachable storage: the next renewal may succeed, and the lease has a margin


def _holds(experiment: Location, token: str) -> bool:
    """Whether the lease is one's own, or gone."""
    try:
        return bool(_read(experiment)["token"] == token)
    except FileNotFoundError:
        return True
    except (ValueError, KeyError, TypeError):
        return False


def _read(experiment: Location) -> dict[str, Any]:
    lease: dict[str, Any] = json.loads((experiment / LEASE_FILE).read_text())
    return lease


def _write(experiment: Location, token: str) -> None:
    lease = {
        "host": socket.gethostname(),
        "booted": psutil.boot_time(),
        "pid_namespace": _pid_namespace(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "renewed": time.time(),
        "token": token,
    }
    write_atomically(experiment / LEASE_FILE, json.dumps(lease) + "\n")


def _lives(lease: dict[str, Any]) -> bool:
    if not _is_this_machine(lease):
        return bool(time.time() - lease["renewed"] < EXPIRY_SECONDS)
    try:
        process = psutil.Process(lease["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:  # killed, and its parent has not asked how it ended
            return False
        return bool(abs(process.create_time() - lease["process_started"]) < 1)
    except psutil.NoSuchProcess:
        return False


def _is_this_machine(lease: dict[str, Any]) -> bool:
    """Whether the holder's process number means the same process here."""
    same_boot = abs(lease["booted"] - psutil.boot_time()) < SAME_BOOT_SECONDS if "booted" in lease else True
    same_namespace = lease["pid_namespace"] == _pid_namespace() if "pid_namespace" in lease else True
    return bool(lease["host"] == socket.gethostname() and same_boot and same_namespace)


def _pid_namespace() -> int | None:
    """Within which this process's number is its name: a container has its own. None where there is but one."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
