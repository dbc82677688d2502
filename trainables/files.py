"""Atomic writes, and retries with exponential back-off while a storage is full or unreachable. Free of torch."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from trainables.errors import StorageUnavailableError, one_line

logger = logging.getLogger(__name__)

RETRY_TIMEOUT_SECONDS = float(os.environ.get("STORAGE_PATIENCE_SECONDS", "600"))
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 1.0, 30.0

Result = TypeVar("Result")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; the file written there replaces `path` when the block succeeds.

    A crash at any moment leaves the old file or the new one, never a part. If the block raises, the temporary file is
    deleted: on a full disk it would take what is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)  # the rename itself
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replaces the file as a whole (see `atomic_path`); text is written as UTF-8. Raises OSError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def backoff_delays() -> Iterator[float]:
    """Yields the seconds to wait before each retry: doubling up to `MAX_DELAY_SECONDS`, without end."""
    delay = FIRST_DELAY_SECONDS
    while True:
        yield delay
        delay = min(2 * delay, MAX_DELAY_SECONDS)


def retry_with_backoff(work: Callable[[], Result]) -> Result:
    """Calls `work` until it raises no OSError: a storage that is full or unreachable should not cost a trial.

    Raises StorageUnavailableError with the last reason after `RETRY_TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + RETRY_TIMEOUT_SECONDS
    delays = backoff_delays()
    while True:
        try:
            return work()
        except OSError as error:
            delay = next(delays)
            if time.monotonic() + delay > deadline:
                raise StorageUnavailableError(error.errno, one_line(error)) from error
            logger.warning("the storage cannot be used, retrying in %g s: %s", delay, error)
        time.sleep(delay)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
