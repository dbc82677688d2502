"""All experiments of a storage, kept read: asked again, only what was appended to a journal since is read.

A fold of a large search takes megabytes, so those not asked for lately are forgotten, but for a summary of each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, experiment_path
from tune_mentormix.experiment.schemas import SearchState
from tune_mentormix.service.logs import LOGGER
from tune_mentormix.service.reading import Reading, Version
from tune_mentormix.service.summary import Summary, summarise
from tune_mentormix.storage.journal import Event
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.paths import Location, RemotePath, StorageError, folders_holding

MOST_REPORTS = 150_000  # in memory, of all experiments together: about 100 MB
REMOTE_SECONDS = 5.0  # between two looks at an object store, where each is a request
NAMES_SECONDS = 1.0  # between two looks at which experiments there are

Watcher = Callable[[str, Event, str | None], None]  # experiment, event, the node where it happened


class NotFoundError(Exception):
    """There is no experiment, or no trial, of that name."""


class Library:
    """Reads experiments; may be asked from several threads."""

    def __init__(self, storage: Location, watcher: Watcher = lambda name, event, node: None) -> None:
        """`watcher` is told every event that comes in once an experiment was read."""
        self.storage = storage
        self._watcher = watcher
        self._readings: dict[str, Reading] = {}
        self._summaries: dict[str, Summary] = {}
        self._lock = threading.Lock()  # of these two; each reading has its own for what is in it
        self._names: tuple[float, list[str]] = (0.0, [])
        self._holders: dict[str, tuple[float, str | None]] = {}
        self._look_again = REMOTE_SECONDS if isinstance(storage, RemotePath) else 0.0

    def names(self) -> list[str]:
        """Of all experiments, in order. Raises StorageError if the storage cannot be read now."""
        looked, names = self._names
        if time.monotonic() - looked > max(NAMES_SECONDS, self._look_again) or not looked:
            names = folders_holding(self.storage, SEARCH_FILE)
            self._names = (time.monotonic(), names)
            with self._lock:
                for gone in (self._readings.keys() | self._summaries.keys()) - set(names):
                    self._readings.pop(gone, None)
                    self._summaries.pop(gone, None)
                    self._holders.pop(gone, None)
        return names

    @contextmanager
    def open(self, name: str) -> Iterator[Reading]:
        """The experiment as it is now; nobody else reads or changes it within the block.

        Raises:
            NotFoundError: if there is none of that name.
            RequestError: if it cannot be read, in one line.
        """
        reading = self._reading(name)
        with reading.lock:
            if time.monotonic() - reading.looked > self._look_again:
                reading.trouble = None
                try:
                    self._summaries[name] = self._look_at(name, reading)
                except (RequestError, OSError) as error:
                    reading.trouble = error
            if reading.trouble:
                raise reading.trouble
            reading.used = time.monotonic()
            yield reading
        self._forget_some(reading)

    def holder(self, name: str) -> str | None:
        """Who runs the experiment, or None."""
        looked, holder = self._holders.get(name, (0.0, None))
        if not looked or time.monotonic() - looked > self._look_again:
            holder = Lease(experiment_path(self.storage, name)).holder()
            self._holders[name] = (time.monotonic(), holder)
        return holder

    def summary(self, name: str) -> Summary:
        """What the list shows of one experiment. Raises as `open` does."""
        summary = self._summaries.get(name)
        known = self._readings.get(name)
        if known is None and summary is not None and summary.version == self._new_reading(name).version():
            return summary.with_state(self.holder(name))
        with self.open(name):
            return self._summaries[name].with_state(self.holder(name))

    def state(self, name: str) -> SearchState:
        """Of one experiment. Raises as `open` does."""
        with self.open(name) as reading:
            return "running" if self.holder(name) else reading.experiment.left_as()

    def version(self, name: str) -> Version:
        """Of what is stored of an experiment now; equal where nothing was written in between."""
        with self.open(name) as reading:
            return reading.version()

    def summaries(self) -> list[Summary]:
        """Of all experiments, by name; one that cannot be read says why."""
        found = []
        for name in self.names():
            try:
                found.append(self.summary(name))
            except NotFoundError:
                continue  # removed meanwhile
            except StorageError:
                raise
            except (RequestError, OSError) as error:
                found.append(Summary.unreadable(name, str(error)))
        return found

    def _look_at(self, name: str, reading: Reading) -> Summary:
        """Reads what is new; files that other hands changed may hold anything."""
        try:
            new = reading.refresh()
            summary = summarise(reading)
        except (RequestError, OSError):
            raise
        except Exception as error:
            LOGGER.exception("an experiment cannot be read", extra={"experiment": name})
            raise RequestError(f"{name} cannot be read: its files are damaged ({type(error).__name__})") from error
        driver = (self.holder(name) or "").rpartition(" on ")[2] if new else ""
        for event in new:
            trial = reading.experiment.trials.get(event.get("trial", -1))
            self._watcher(name, event, (trial and trial.node) or driver or None)
        return summary

    def _reading(self, name: str) -> Reading:
        with self._lock:
            known = self._readings.get(name)
        if known is None:
            known = self._new_reading(name)
            with self._lock:
                known = self._readings.setdefault(name, known)
        return known

    def _new_reading(self, name: str) -> Reading:
        path = experiment_path(self.storage, name)
        if not (path / SEARCH_FILE).is_file():
            raise NotFoundError(f"there is no experiment {name!r}")
        return Reading(path)

    def _forget_some(self, kept: Reading) -> None:
        with self._lock:
            by_use = sorted(self._readings.items(), key=lambda item: item[1].used)
            total = sum(reading.reports for _, reading in by_use)
            for name, reading in by_use:
                if total <= MOST_REPORTS:
                    return
                if reading is not kept:
                    total -= reading.reports
                    del self._readings[name]
