"""One experiment's journal read as far as it goes, and further when it grew."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import parse_event
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, begun_experiment
from tune_mentormix.storage.journal import JOURNAL_FILE, Event, read_events
from tune_mentormix.storage.paths import Location, RemotePath

RATE_SECONDS = 60.0  # over which epochs a second are counted
# Of a report; the rest takes most of the memory.
_KEPT_OF_REPORTS = ("time", "event", "trial", "attempt", "node", "epoch", "val_accuracy")

Version = tuple[Any, ...]  # equal where nothing was written in between


class Reading:
    """An experiment and how far its journal was read; whoever uses it holds its lock."""

    def __init__(self, path: Location) -> None:
        """Reads nothing yet."""
        self.path = path
        self.lock = threading.Lock()
        self.looked = 0.0  # by the monotonic clock, as the next
        self.used = 0.0
        self.trouble: Exception | None = None  # of the latest look
        self.reports = 0
        self.resources: dict[str, float] = {}  # of one trial in the latest run
        self.experiment = Experiment(path, SearchSettings())
        self.read_version: Version | None = None  # what is stored was at least this when it was read
        self._offset = 0  # bytes of a file
        self._first: Event | None = None
        self._events = 0
        self._told: tuple[Event | None, int] | None = None  # the first event and their number, once it was read
        self._report_times: deque[float] = deque(maxlen=100_000)

    def refresh(self) -> list[Event]:
        """Reads what is new, and returns those events; none of an experiment read for the first time.

        Raises:
            RequestError: if the journal or the settings are damaged, or a newer version wrote them.
        """
        self.looked = time.monotonic()
        version = self.version()
        if version == self.read_version:
            return []
        try:
            events = self._new_events(version)
            for event in events:
                self._apply(event)
        except Exception as error:
            self.read_version = None
            if isinstance(error, KeyError | ValidationError):
                raise RequestError(f"{self.path} holds an event that makes no sense: the file was damaged") from error
            raise
        self.read_version = version
        return self._untold(events)

    def version(self) -> Version:
        """Of what is stored now."""
        journal = self.path / JOURNAL_FILE
        if isinstance(journal, RemotePath):
            return tuple(sorted(part.name for part in (journal.parent / journal.stem).iterdir()))
        settings = (self.path / SEARCH_FILE).stat()
        return settings.st_mtime_ns, *_identity(journal)  # type: ignore[union-attr]

    def epochs_per_second(self) -> float:
        """Of all trials, over the last minute."""
        since = time.time() - RATE_SECONDS
        while self._report_times and self._report_times[0] < since:
            self._report_times.popleft()
        return len(self._report_times) / RATE_SECONDS

    def gpus_held(self) -> float:
        """GPUs that trials running now hold."""
        return self.resources.get("gpus_per_trial", 0.0) * self.experiment.counts()["running"]

    def _new_events(self, version: Version) -> list[Event]:
        """What was appended, or all where that cannot be told, as on an object store."""
        journal = self.path / JOURNAL_FILE
        if isinstance(journal, RemotePath):
            self._begin_anew()
            return [_slim(event) for event in read_events(journal)]
        if not self._grew(version):
            self._begin_anew()
        return self._appended(journal)

    def _grew(self, version: Version) -> bool:
        """Whether the file is the one that was read, and at least as long."""
        return bool(self.read_version and self.read_version[:2] == version[:2] and version[-1] >= self._offset)

    def _untold(self, events: list[Event]) -> list[Event]:
        """Without those that were returned before: after trouble, and on an object store, all are read anew."""
        told, self._told = self._told, (self._first, self._events)
        if told is None:
            return []
        first, count = told
        before = self._events - len(events)
        return events if first != self._first else events[max(0, count - before) :]

    def _appended(self, journal: Path) -> list[Event]:
        """The whole lines behind those that were read."""
        try:
            stream = journal.open("rb")
        except FileNotFoundError:
            return []
        events = []
        with stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                try:
                    events.append(_slim(json.loads(line)))
                except ValueError as error:
                    raise RequestError(f"{journal} holds a line that is no event: the file was damaged") from error
                self._offset += len(line)
        return events

    def _begin_anew(self) -> None:
        self.experiment = begun_experiment(self.path)
        self.resources = {"gpus_per_trial": self.experiment.settings.gpus()}
        self.reports = self._offset = self._events = 0
        self._first = None
        self._report_times.clear()

    def _apply(self, event: Event) -> None:
        self.experiment.apply(parse_event(event))
        self._first = self._first or event
        self._events += 1
        if event["event"] == "report":
            self.reports += 1
            self._report_times.append(event["time"])
        elif event["event"] == "run_started":
            self.resources |= {key: event[key] for key in ("gpus_per_trial", "cpus_per_trial") if key in event}


def _slim(event: dict[str, Any]) -> Event:
    return {key: event[key] for key in _KEPT_OF_REPORTS if key in event} if event.get("event") == "report" else event


def _identity(journal: Path) -> tuple[int, int, int]:
    """Which file it is, when it was written, and its length; zeros where there is none yet."""
    try:
        found = journal.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
