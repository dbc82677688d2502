"""Checkpoints on an object store, or on any storage that is full or out of reach for a while."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = float(os.environ.get("STORAGE_PATIENCE_SECONDS", "600"))  # with one that cannot be used
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0

Result = TypeVar("Result")


class StorageUnavailableError(OSError):
    """A storage could not be used for long; no fault of the trial that waited for it."""


def patiently(work: Callable[[], Result]) -> Result:
    """Does `work`, again and again while it raises OSError: a trial had better wait than lose its epochs.

    Raises:
        StorageUnavailableError: with the last reason, after `PATIENCE_SECONDS`.
    """
    began, wait = time.monotonic(), FIRST_WAIT_SECONDS
    while True:
        try:
            return work()
        except OSError as error:
            if time.monotonic() - began + wait > PATIENCE_SECONDS:
                raise StorageUnavailableError(error.errno, error.strerror or str(error)) from error
            logger.warning("the storage cannot be used, trying again: %s", error)
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def _download(uri: str, folder: str) -> None:
    from pyarrow.fs import FileSystem, copy_files  # only where there is an object store

    filesystem, path = FileSystem.from_uri(uri)
    copy_files(path, folder, source_filesystem=filesystem)
