"""The processes that train under a test's own Ray, for tests that kill, stop or starve them."""

from __future__ import annotations

import psutil


def worker_processes(doing: str = "Trainable") -> list[psutil.Process]:
    """The processes that train, of the Ray that this process started.

    Args:
        doing: what Ray reports that they do, in part: `Trainable.train` leaves out those that wait or save.
    """
    return [process for process in psutil.Process().children(recursive=True) if _does(process, doing)]


def _does(process: psutil.Process, doing: str) -> bool:
    try:
        return any(doing in word for word in process.cmdline())
    except psutil.Error:  # it ended just now
        return False
