"""The lease of an experiment: at most one driver runs it, and a driver that died does not hold it.

The driver renews a file in the experiment's folder. On the driver's own machine its process tells whether it is
alive; from another machine or container, the time of the last renewal does.

On a disk, a file lock lets one driver at a time check and write. An object store has no lock, and `pyarrow` has no
conditional write: a driver writes its lease, waits, and runs if the lease is still its own. That admits one driver
as long as none takes longer than the wait between checking and writing. A driver that was cut off for longer than a
lease lasts finds out with its next write to the journal, which refuses it (`LeaseLostError`).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from trainables.errors import one_line
from tune_mentormix.errors import RequestError
from tune_mentormix.formatting import format_duration
from tune_mentormix.storage.paths import Location, RemotePath, StorageError, write_atomically
from tune_mentormix.storage.waiting import WAITS, StorageWait

LEASE_FILE = "lease.json"
RENEW_SECONDS = 5.0
EXPIRY_SECONDS = 60.0  # a network file system may lag, and clocks differ
WAITING = "the lease"  # in messages
ROOM_BYTES = 65_536  # on a disk; with less, it counts as full
SETTLE_SECONDS = 1.0  # between writing a lease to an object store and believing it
SAME_BOOT_SECONDS = 5.0  # machines may share a name; a machine's own boot time moves when its clock is set


class Lease:
    """The lease of one experiment."""

    def __init__(self, experiment: Location) -> None:
        """Neither reads nor writes anything yet."""
        self._experiment = experiment
        self._file = experiment / LEASE_FILE
        self._token = secrets.token_hex(8)

    def holder(self) -> str | None:
        """Returns who runs the experiment (`process 4242 on host a`); None if no one does, or no store answers.

        Raises RequestError if the file of the lease is there and cannot be read.
        """
        try:
            lease = self._read_alive()
        except StorageError:
            return None
        except OSError as error:
            raise RequestError(f"cannot read {self._file}: {one_line(error)}") from error
        return _described(lease) if lease else None

    def waiting(self) -> StorageWait | None:
        """Returns since when the driver that runs the experiment waits for the storage, and why; None if it does not.

        Where even the lease can no longer be written, it is the time of its last renewal, on the driver's machine.
        """
        try:
            lease = self._read()
            if not _is_alive(lease):
                return None
            if lease.get("waiting"):
                return StorageWait.model_validate(lease["waiting"])
            overdue, full = time.time() - lease["renewed"] - RENEW_SECONDS, self._is_disk_full()
            if _is_this_machine(lease) and overdue > (1 if full else RENEW_SECONDS):
                why = "no space is left on the disk" if full else "the driver hangs"
                return StorageWait(since=lease["renewed"], reason=f"{WAITING} was not renewed since: {why}")
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def check_free(self) -> None:
        """Raises RequestError if a living driver holds the lease, or if it cannot be read now."""
        try:
            lease = self._read_alive()
        except OSError as error:
            raise RequestError(f"cannot read {self._file}: {one_line(error)} (--storage)") from error
        if lease:
            raise RequestError(
                f"{self._experiment.name} is running already ({_described(lease)}); stop it there first"
                f"{self._way_out(lease)}"
            )

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Holds the lease in the block; a thread renews it. Raises RequestError if another driver has it."""
        try:
            self._acquire()
        except OSError as error:
            raise RequestError(f"{self._experiment} cannot be written: {one_line(error)} (--storage)") from error
        released = threading.Event()
        renewer = threading.Thread(target=self._renew_until, args=(released,), name="lease", daemon=True)
        renewer.start()
        try:
            yield
        finally:
            released.set()
            renewer.join()
            WAITS.end(WAITING, gave_up=True)
            with suppress(OSError):  # an unreachable storage: the lease expires
                # Where the experiment was deleted there is none, and a lock would make its folder again.
                if self._file.exists() and self._is_own():
                    with self._locked():
                        self._file.unlink(missing_ok=True)

    def _acquire(self) -> None:
        with self._locked():
            self.check_free()
            self._write()
        if isinstance(self._experiment, RemotePath):
            time.sleep(SETTLE_SECONDS)
            if not self._is_own():
                self.check_free()
                raise RequestError(
                    f"{self._experiment.name} was started by another process at the same moment: that one runs it"
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lets one driver at a time into the block, on a disk; its file stays only as long as there is a lease."""
        if isinstance(self._experiment, RemotePath):
            yield
            return
        lock = self._experiment / f".{LEASE_FILE}.lock"
        with FileLock(str(lock)):
            try:
                yield
            finally:
                if not self._file.exists():  # whoever waits for a file that is gone makes a new one
                    lock.unlink(missing_ok=True)

    def _renew_until(self, released: threading.Event) -> None:
        while not released.wait(RENEW_SECONDS):
            try:
                if not self._is_own():
                    return  # taken over while this driver was cut off; the journal tells the driver
                self._write()
            except OSError as error:  # the next renewal may succeed, and the lease has a margin
                WAITS.begin(WAITING, f"cannot be written: {one_line(error)}")
            else:
                WAITS.end(WAITING)

    def _is_disk_full(self) -> bool:
        return isinstance(self._file, Path) and shutil.disk_usage(self._file.parent).free < ROOM_BYTES

    def _read_alive(self) -> dict[str, Any] | None:
        try:
            lease = self._read()
            return lease if _is_alive(lease) and _described(lease) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _way_out(self, lease: dict[str, Any]) -> str:
        """What else helps where this machine cannot tell whether the driver of another one is alive."""
        if _is_this_machine(lease):
            return ""
        ahead = lease["renewed"] - time.time()
        if ahead < EXPIRY_SECONDS:
            return f". If it is gone from there, its lease ends in {format_duration(ahead + EXPIRY_SECONDS)}"
        return (
            ". By this machine's clock its lease was renewed in the future, so it does not end by itself soon: set "
            f"the clocks right or, if nothing runs there, delete {self._file}"
        )

    def _is_own(self) -> bool:
        """Whether this driver wrote the lease, or there is none."""
        try:
            return bool(self._read()["token"] == self._token)
        except FileNotFoundError:
            return True
        except (ValueError, KeyError, TypeError):
            return False

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self._file.read_text()))

    def _write(self) -> None:
        lease: dict[str, Any] = {
            "host": socket.gethostname(),
            "booted": psutil.boot_time(),
            "pid_namespace": _pid_namespace(),
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
            "renewed": time.time(),
            "token": self._token,
        }
        if wait := WAITS.current():
            lease["waiting"] = wait.model_dump()
        write_atomically(self._file, json.dumps(lease) + "\n")


def _described(lease: dict[str, Any]) -> str:
    return f"process {lease['pid']} on {lease['host']}"


def _is_alive(lease: dict[str, Any]) -> bool:
    """Whether the process that wrote the lease is running, as far as this machine can tell."""
    if not _is_this_machine(lease):
        return bool(time.time() - lease["renewed"] < EXPIRY_SECONDS)
    try:
        process = psutil.Process(lease["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:  # killed, and not yet waited for by its parent
            return False
        return bool(abs(process.create_time() - lease["process_started"]) < 1)
    except psutil.NoSuchProcess:
        return False


def _is_this_machine(lease: dict[str, Any]) -> bool:
    """Whether the holder's process number names the same process here."""
    same_boot = abs(lease["booted"] - psutil.boot_time()) < SAME_BOOT_SECONDS if "booted" in lease else True
    same_namespace = lease["pid_namespace"] == _pid_namespace() if "pid_namespace" in lease else True
    return bool(lease["host"] == socket.gethostname() and same_boot and same_namespace)


def _pid_namespace() -> int | None:
    """Returns the PID namespace of this process (each container has one), or None without namespaces."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
