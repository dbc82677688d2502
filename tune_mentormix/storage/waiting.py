"""Who in this process waits for the storage: one line when the first begins to wait, one when the last is done.

The journal, the lease and the checkpoints of trials may each find out that the storage is full or unreachable. Its
user wants to know once. The lease carries it to other processes, such as `status`.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime

from pydantic import BaseModel

from trainables.files import RETRY_TIMEOUT_SECONDS
from tune_mentormix.formatting import format_duration

logger = logging.getLogger(__name__)


class StorageWait(BaseModel):
    """That a search waits for its storage."""

    since: float
    """Unix seconds."""
    reason: str

    def __str__(self) -> str:
        """Formats it in local time: `2026-11-29 23:10:05: the journal cannot be written: …`."""
        return f"{datetime.fromtimestamp(self.since):%Y-%m-%d %H:%M:%S}: {self.reason}"


class StorageWaits:
    """All that wait; may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, StorageWait] = {}  # by who waits
        self._since = 0.0

    def begin(self, who: str, problem: str) -> None:
        """Notes the problem of `who`: `the journal`, `cannot be written: …`. Logs it if no one waited before."""
        with self._lock:
            is_first = not self._waiting
            self._since = time.time() if is_first else self._since
            self._waiting[who] = StorageWait(since=self._since, reason=f"{who} {problem}")
        if is_first:
            limit = format_duration(RETRY_TIMEOUT_SECONDS)
            logger.warning("%s %s. Trying again for %s; nothing is lost", who, problem, limit)

    def end(self, who: str, gave_up: bool = False) -> None:
        """Notes that `who` waits no longer; logs it if no one else waits, unless it gave up."""
        with self._lock:
            is_last = self._waiting.pop(who, None) is not None and not self._waiting
            seconds = time.time() - self._since
        if is_last and not gave_up:
            logger.warning("the storage works again, after %s", format_duration(seconds))

    def current(self) -> StorageWait | None:
        """Returns since when something waits, and why; None while nothing does."""
        with self._lock:
            return next(iter(self._waiting.values()), None)


WAITS = StorageWaits()
