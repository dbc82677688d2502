"""Watches the Ray that a search runs on, so that its death is told in one line, at once.

Ray itself notices a lost head after a minute, and a lost raylet (the process that runs a machine's workers) after a
quarter of one; then it ends the driver's process, in the middle of a call, with a page of its log.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from tune_mentormix.formatting import format_duration

POLL_SECONDS = 0.5
CONNECT_SECONDS = 2.0
HURRIED_POLL_SECONDS = 0.05
LOSS_SECONDS = 3.0  # after a signal that Ray's processes may have been sent too
HEAD_SECONDS = 45.0  # in which the head of a cluster may be started again; after a minute, Ray ends the process

logger = logging.getLogger(__name__)


@dataclass
class _Listener:
    """A process of Ray that accepts connections as long as it lives."""

    title: str
    host: str
    port: int
    patience: float = 0.0  # seconds that it may be gone
    gone_since: float | None = None  # by the monotonic clock
    was_told: bool = False

    def is_lost(self) -> bool:
        """Tries to connect; returns whether it has been gone for longer than its patience."""
        now = time.monotonic()
        if not _is_gone(self.host, self.port):
            if self.was_told:
                logger.warning("%s answers again", self.title)
            self.gone_since, self.was_told = None, False
            return False
        if self.gone_since is None:
            self.gone_since = now
            return False  # one connection may fail
        if self.patience and not self.was_told:
            self.was_told = True
            logger.warning("%s does not answer: waiting %s for it", self.title, format_duration(self.patience))
        return now - self.gone_since >= self.patience


class RayWatch(threading.Thread):
    """Calls `on_lost`, once and in this thread, with what was lost of Ray."""

    def __init__(self, listeners: list[_Listener], on_lost: Callable[[str], object]) -> None:
        super().__init__(name="ray", daemon=True)
        self._listeners = listeners
        self._on_lost = on_lost
        self._stopped = threading.Event()
        self._poll_seconds = POLL_SECONDS

    def run(self) -> None:
        """Watches until something is lost, or `stop` is called."""
        while self._listeners and not self._stopped.wait(self._poll_seconds):
            lost = next((listener for listener in self._listeners if listener.is_lost()), None)
            if lost and not self._stopped.is_set():
                self._on_lost(f"{lost.title} has died, or was killed")
                return

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self.join()

    def await_loss(self) -> None:
        """Blocks the calling thread for `LOSS_SECONDS`, in which the loss of a Ray that is ending is told at once.

        Ray ends this process, silently, when it is called while its own processes end.
        """
        self._poll_seconds = HURRIED_POLL_SECONDS
        self._stopped.wait(LOSS_SECONDS)
        self._poll_seconds = POLL_SECONDS


@contextmanager
def watch_ray(joined: bool, on_lost: Callable[[str], object]) -> Iterator[RayWatch]:
    """While the block runs, calls `on_lost`, once and in another thread, with what was lost of the connected Ray.

    That is its head, or the raylet on this machine. The head of a cluster that was joined may be away for a while.
    """
    watch = RayWatch(_listeners(joined), on_lost)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def _listeners(joined: bool) -> list[_Listener]:
    """Returns the head and the raylet here; none where the driver is a client elsewhere (`ray://`)."""
    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        return []
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    head = "the head of the Ray cluster" if joined else "the head of Ray, its GCS server,"
    found = [_Listener(f"{head} at {context.gcs_address}", host.strip("[]"), int(port), HEAD_SECONDS * joined)]
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["NodeID"] == context.get_node_id():
            title = "the raylet of Ray, which runs the workers of this machine,"
            found.append(_Listener(title, node["NodeManagerAddress"], node["NodeManagerPort"]))
    return found


def _is_gone(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return False
    except (ConnectionError, TimeoutError):
        return True
    except OSError as error:  # anything else is this process's own trouble, such as too many open files
        return error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
