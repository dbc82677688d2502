"""The event log of an experiment: one JSON object a line, appended the moment a thing happens, the only truth.

A driver killed while writing leaves at most one torn line at the end; readers skip it and the next writer cuts it
off. What the events mean is `experiment`'s business.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tune_mentormix.errors import RequestError

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

Event = dict[str, Any]


class Journal:
    """Appends events to one file; every event is on the disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        """Opens the journal, creating it if need be, and cuts off what a killed writer left of its last line."""
        self._stream = path.open("ab")
        whole = _whole_length(path)
        if whole < path.stat().st_size:
            self._stream.truncate(whole)

    def append(self, event: str, **fields: Any) -> Event:
        """Writes one event with the time, and returns it as a reader will see it."""
        assert event in EVENTS, event
        entry = {"time": round(time.time(), 3), "event": event, **fields}
        line = json.dumps(_without_nan(entry), allow_nan=False, separators=(",", ":"))
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return json.loads(line)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Closes the file; further appends are errors."""
        self._stream.close()


def read_events(path: Path) -> Iterator[Event]:
    """Reads all whole events in order; also while somebody is writing.

    Raises:
        RequestError: if a line that is not the last is no event.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise RequestError(f"{path}, line {number} is not a journal event: the file was damaged") from error


def _whole_length(path: Path) -> int:
    """Bytes up to and including the last line end."""
    with path.open("rb") as stream:
        position = stream.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65_536)
            stream.seek(start)
            end = stream.read(position - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            position = start
    return 0


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
