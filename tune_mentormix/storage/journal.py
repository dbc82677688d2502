"""The event log of an experiment: one JSON object per line, appended as soon as a thing happens.

The journal is the only source of truth; `experiment.events` defines the events. A driver that is killed while it
writes leaves at most one truncated line, the last: readers skip it and the next writer cuts it off. While the storage
is full or unreachable, events wait in memory, in order, and writing them is retried: no event is lost.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from trainables.errors import one_line
from trainables.files import RETRY_TIMEOUT_SECONDS, backoff_delays
from tune_mentormix.errors import RequestError
from tune_mentormix.formatting import format_duration, without_nan
from tune_mentormix.storage.journal_backends import LeaseLostError, journal_lines, open_backend
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.waiting import WAITS

JOURNAL_FILE = "journal.jsonl"
WAITING = "the journal"  # in messages
BUFFERED = ("report",)  # on an object store, where every write is a request; no decision depends on them alone

Event = dict[str, Any]


class Journal:
    """Appends events. When `append` returns, the event is on the storage, except while the storage fails.

    On an object store, reports wait a few seconds and are written together. Threads may share a journal.
    """

    def __init__(self, path: Location) -> None:
        """Opens or creates the journal. Raises OSError if it cannot be read and written now."""
        self._backend = open_backend(path)
        self._lock = threading.RLock()
        self._pending: list[bytes] = []
        self._pending_since = 0.0
        self._urgent = False  # whether a decision depends on what is pending
        self._last_error: OSError | None = None
        self._failing_since = 0.0
        self._delays = backoff_delays()
        self._next_try = 0.0

    def append(self, event: str, **fields: Any) -> Event:
        """Writes one event with the current time, and returns it as a reader will see it."""
        entry = without_nan({"time": round(time.time(), 3), "event": event, **fields})
        line = json.dumps(entry, allow_nan=False, separators=(",", ":"))
        with self._lock:
            if not self._pending:
                self._pending_since = time.monotonic()
            self._pending.append(line.encode() + b"\n")
            self._urgent = self._urgent or event not in BUFFERED
            self.flush()
        return dict(json.loads(line))

    def flush(self) -> None:
        """Writes pending events if they are due; to be called regularly."""
        with self._lock:
            now = time.monotonic()
            due = self._urgent or now - self._pending_since >= self._backend.buffer_seconds
            if self._pending and due and now >= self._next_try:
                self._write()

    @property
    def is_flushed(self) -> bool:
        """Whether everything is written, except reports that are not due yet."""
        return not self._pending or (self._last_error is None and not self._urgent)

    @property
    def permanent_error(self) -> str | None:
        """The reason why nothing more can be written: another writer, or a storage that fails for too long."""
        if self._last_error is None:
            return None
        if isinstance(self._last_error, LeaseLostError):
            return str(self._last_error)
        failing = time.monotonic() - self._failing_since
        if failing < RETRY_TIMEOUT_SECONDS:
            return None
        return f"the journal could not be written for {format_duration(failing)}: {one_line(self._last_error)}"

    def close(self) -> None:
        """Writes pending events if that is possible now, and closes the journal."""
        with self._lock:
            if self._pending:
                self._write()
            WAITS.end(WAITING, gave_up=True)
            self._backend.close()

    def _write(self) -> None:
        try:
            self._backend.append(b"".join(self._pending))
        except OSError as error:
            self._record_failure(error)
            return
        self._pending.clear()
        self._urgent = False
        WAITS.end(WAITING)
        self._last_error, self._next_try = None, 0.0

    def _record_failure(self, error: OSError) -> None:
        now = time.monotonic()
        if self._last_error is None:
            self._failing_since, self._delays = now, backoff_delays()
        if not isinstance(error, LeaseLostError):
            WAITS.begin(WAITING, f"cannot be written: {one_line(error)}")
        self._last_error = error
        self._next_try = now + next(self._delays)


def read_events(path: Location) -> Iterator[Event]:
    """Reads all complete events in order; also while a driver is writing. Raises RequestError if a line is none."""
    for number, line in enumerate(journal_lines(path), start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise RequestError(f"{path}, line {number} is not a journal event: the file was damaged") from error
