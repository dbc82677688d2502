"""The event log of an experiment: one JSON object a line, appended the moment a thing happens, the only truth.

On a disk it is one file, on an object store a folder of segments. A driver killed while writing leaves at most one
torn line at the end: readers skip it, the next writer cuts it off. What events mean is `experiment`'s business.

A storage that is full or out of reach loses no event and ends no search at once: what cannot be written is kept in
memory, in order, and tried again, while the search goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from trainables.files import RETRY_TIMEOUT_SECONDS
from tune_mentormix.errors import RequestError, TakenOverError
from tune_mentormix.formatting import format_duration
from tune_mentormix.storage.journal_backends import AppendedFile, Segments, read_lines, read_segments
from tune_mentormix.storage.paths import Location, RemotePath

JOURNAL_FILE = "journal.jsonl"
EVENTS = (
    "run_started",
    "proposed",
    "report",
    "checkpoint",
    "stopped",
    "finished",
    "failed",
    "ruled_out",
    "run_ended",
)
BUFFERED = ("report",)  # on an object store, where every write is a request; nothing is decided by them alone
BUFFER_SECONDS = 2.0
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 30.0

Event = dict[str, Any]


class Journal:
    """Appends events; when `append` returns they are stored, but for reports on an object store, and in trouble."""

    def __init__(self, path: Location, say: Callable[[str], None] = lambda message: None) -> None:
        """Opens the journal, creating it if need be, and cuts off what a killed writer left of its last line.

        Args:
            path: of the file; on an object store its segments lie in the folder of that name without its suffix.
            say: told in one line when trouble begins and when it is over.

        Raises:
            OSError: if the journal cannot be read and written now.
        """
        self._store: AppendedFile | Segments
        if isinstance(path, RemotePath):
            self._store, self._buffer_seconds = Segments(_folder(path)), BUFFER_SECONDS
        else:
            self._store, self._buffer_seconds = AppendedFile(path), 0.0
        self._say = say
        self._pending: list[bytes] = []
        self._urgent = False  # whether something follows from what is pending
        self._pending_since = 0.0
        self._trouble: OSError | None = None
        self._trouble_since = 0.0
        self._wait, self._next_try = FIRST_RETRY_SECONDS, 0.0

    def append(self, event: str, **fields: Any) -> Event:
        """Writes one event with the time, and returns it as a reader will see it."""
        line, entry = _line(event, fields)
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending.append(line)
        self._urgent = self._urgent or event not in BUFFERED
        self.write_due()
        return entry

    def write_due(self) -> None:
        """Writes what waits, if it is time to: to be called now and then."""
        now = time.monotonic()
        due = self._urgent or now - self._pending_since >= self._buffer_seconds
        if self._pending and due and now >= self._next_try:
            self._write()

    @property
    def is_stored(self) -> bool:
        """Whether nothing waits to be written but for reports that are not due."""
        return not self._pending or (self._trouble is None and not self._urgent)

    @property
    def given_up(self) -> str | None:
        """Why nothing more can be written, in one line, once that is certain or has lasted too long."""
        if self._trouble is None:
            return None
        if isinstance(self._trouble, TakenOverError):
            return str(self._trouble)
        lasted = time.monotonic() - self._trouble_since
        if lasted < RETRY_TIMEOUT_SECONDS:
            return None
        return f"the journal could not be written for {format_duration(lasted)}: {_reason(self._trouble)}"

    def close(self) -> None:
        """Writes what waits, if that is possible now, and closes; further appends are errors."""
        if self._pending:
            self._write()
        self._store.close()

    def _write(self) -> None:
        try:
            self._store.append(b"".join(self._pending))
        except OSError as error:
            self._note_trouble(error)
        else:
            self._pending.clear()
            self._urgent = False
            self._note_success()

    def _note_trouble(self, error: OSError) -> None:
        now = time.monotonic()
        if self._trouble is None and not isinstance(error, TakenOverError):
            self._trouble_since, self._wait = now, FIRST_RETRY_SECONDS
            limit = format_duration(RETRY_TIMEOUT_SECONDS)
            self._say(f"the journal cannot be written: {_reason(error)}. Trying again for {limit}; nothing is lost")
        self._trouble = error
        self._next_try, self._wait = now + self._wait, min(2 * self._wait, LONGEST_RETRY_SECONDS)

    def _note_success(self) -> None:
        if self._trouble is not None:
            self._say(
                f"the journal is written again, after {format_duration(time.monotonic() - self._trouble_since)}"
            )
        self._trouble, self._next_try = None, 0.0


def read_events(path: Location) -> Iterator[Event]:
    """Reads all whole events in order, none where there is no journal; also while somebody is writing.

    Raises:
        RequestError: if a line that is not the last is no event.
    """
    lines = read_segments(_folder(path)) if isinstance(path, RemotePath) else read_lines(path)
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise RequestError(f"{path}, line {number} is not a journal event: the file was damaged") from error


def _folder(path: RemotePath) -> RemotePath:
    return path.parent / path.stem


def _line(event: str, fields: dict[str, Any]) -> tuple[bytes, Event]:
    assert event in EVENTS, event
    entry = {"time": round(time.time(), 3), "event": event, **fields}
    line = json.dumps(_without_nan(entry), allow_nan=False, separators=(",", ":"))
    return line.encode() + b"\n", json.loads(line)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
