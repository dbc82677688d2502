"""`ExperimentCache`: all experiments of a storage in memory, where only what was appended to a journal is read again.

A large experiment takes megabytes: those not used lately are dropped, except for a snapshot of each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from cachetools import TTLCache, cachedmethod
from pydantic import ValidationError

from trainables.errors import one_line
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import parse_event, repair_advice
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, experiment_path, open_experiment
from tune_mentormix.experiment.schemas import SearchState, unreadable_overview
from tune_mentormix.results.confirmation import CONFIRMATION_FOLDER, read_confirmation
from tune_mentormix.results.confirmation_summary import verdicts
from tune_mentormix.results.evaluation_log import EVALUATION_LOG
from tune_mentormix.results.summary import search_overview
from tune_mentormix.results.verified_labels import VERIFICATION_FOLDER
from tune_mentormix.service.request_logging import LOGGER, log
from tune_mentormix.service.schemas import ConfirmationSummary, SearchSummary
from tune_mentormix.storage.journal import JOURNAL_FILE, Event, read_events
from tune_mentormix.storage.lease import LEASE_FILE, Lease
from tune_mentormix.storage.listing import folders_holding, has_file, list_folder, sizes_below
from tune_mentormix.storage.paths import Location, StorageError, local_path

MAX_REPORTS = 150_000  # in memory, of all experiments together: about 100 MB
MAX_HOLDERS = 10_000  # remembered at once
REMOTE_SECONDS = 5.0  # between two reads of an object store, where each is a request
NAMES_SECONDS = 1.0  # between two listings of the storage
POLL_SECONDS = 10.0
RATE_SECONDS = 60.0  # over which epochs a second are counted
_ANSWER_KEYS = ("val_images", "val_correct", "val_correct_file")
# The other metrics take most memory.
_METRICS = ("val_accuracy", "noisy_val_accuracy")
_REPORT_KEYS = ("time", "event", "trial", "attempt", "node", "epoch", *_METRICS, *_ANSWER_KEYS)
_LOGGED_EVENTS = ("run_started", "run_ended", "proposed", "stopped", "finished", "failed")

Version = tuple[Any, ...]  # equal where nothing was written in between


class ResultsVersion(NamedTuple):
    """What the results of an experiment rest on; the parts are equal where nothing was written in between."""

    journals: Version  # of the search and its confirmation
    answers: Version = ()  # verified labels
    is_growing: bool = False  # whether a driver writes to one of the journals


EventListener = Callable[[str, Event, str | None], None]  # experiment, event, the node where it happened


class NotFoundError(Exception):
    """There is no experiment, or no trial, of that name."""


@dataclass(frozen=True)
class Snapshot:
    """One search in a few figures, small enough to keep for all of them."""

    status: SearchSummary
    version: Version = ()
    epochs_per_second: float = 0.0
    gpus_held: float = 0.0
    holder: str | None = None  # the driver that runs it

    def with_holder(self, holder: str | None) -> Snapshot:
        """Returns it as it is now: rates are those of a running search."""
        if holder:
            return replace(self, holder=holder, status=self.status.model_copy(update={"state": "running"}))
        trials = self.status.trials
        trials = trials.model_copy(update={"pending": trials.pending + trials.running, "running": 0})
        status = self.status.model_copy(update={"trials": trials})
        return replace(self, status=status, epochs_per_second=0.0, gpus_held=0.0)


class CachedExperiment:
    """An experiment and how far its journal was read; its user holds `lock`."""

    def __init__(self, path: Location) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.refreshed = 0.0  # by the monotonic clock, as the next
        self.used = 0.0
        self.error: Exception | None = None  # of the latest refresh
        self.experiment = Experiment(path, SearchSettings())
        self.read_version: Version | None = None  # what is stored was at least this when it was read
        self._offset = 0  # bytes of the journal that were read
        self._first: Event | None = None
        self._events = 0
        self._returned: tuple[Event | None, int] | None = None  # the first event, and how many `refresh` has returned
        self._report_times: deque[float] = deque(maxlen=100_000)
        self._confirmed_version: Version = ()
        self._confirmed: ConfirmationSummary | None = None

    def refresh(self) -> list[Event]:
        """Reads what was appended, and returns those events; none when an experiment is read for the first time.

        Raises RequestError if the journal or the settings cannot be read, are damaged, or a newer version wrote them.
        """
        self.refreshed = time.monotonic()
        try:
            version = self.version()
            if version == self.read_version:
                return []
            events = self._appended_events(version)
            for event in events:
                self.experiment.apply(parse_event(event))
                self._first = self._first or event
                self._events += 1
                if event["event"] == "report":
                    self._report_times.append(event["time"])
        except Exception as error:
            self.read_version = None
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                raise RequestError(f"cannot read {error.filename or self.path}: {one_line(error)}") from error
            if isinstance(error, KeyError | ValidationError):
                raise RequestError(
                    f"{self.path} holds an event that makes no sense: {repair_advice(self.path / JOURNAL_FILE)}"
                ) from error
            raise
        self.read_version = version
        return self._unreturned(events)

    def version(self) -> Version:
        """Identifies what is stored now."""
        folder, journal = local_path(self.path), self.path / JOURNAL_FILE
        if folder is None:  # of an object store, where the journal is a folder of segments
            return tuple(sorted(part.name for part in list_folder(self.path / journal.stem)))
        written = (folder / SEARCH_FILE).stat().st_mtime_ns
        with suppress(FileNotFoundError):
            found = (folder / JOURNAL_FILE).stat()
            return written, found.st_ino, found.st_mtime_ns, found.st_size
        return written, 0, 0, 0

    def confirmation_version(self) -> Version:
        """Identifies what is stored of its confirmation now."""
        folder = self.path / CONFIRMATION_FOLDER
        files = sizes_below(folder, recursive=False)
        files.pop(LEASE_FILE, None)
        if local_path(folder) is None:  # of an object store, where a log is a folder of segments
            for log_file in (JOURNAL_FILE, EVALUATION_LOG):
                files |= sizes_below(folder / Path(log_file).stem)
        return tuple(sorted(files.items()))

    def answers_version(self) -> Version:
        """Identifies which labels people have verified by now."""
        return tuple(sorted(sizes_below(self.path / VERIFICATION_FOLDER).items()))

    def snapshot(self) -> Snapshot:
        """Describes the experiment as it was read, as if no driver held it."""
        since = time.time() - RATE_SECONDS
        while self._report_times and self._report_times[0] < since:
            self._report_times.popleft()
        confirmed = self.confirmation_version()
        version = (self.read_version or (), confirmed, self.answers_version())
        status = SearchSummary.model_validate(search_overview(self.experiment), from_attributes=True)
        gpus, run = self.experiment.settings.gpus(), self.experiment.last_run
        return Snapshot(
            status.model_copy(
                update={"state": self.experiment.left_as(), "confirmation": self._confirmation(confirmed)}
            ),
            version,
            epochs_per_second=len(self._report_times) / RATE_SECONDS,
            gpus_held=status.trials.running * (gpus if run.gpus_per_trial is None else run.gpus_per_trial),
        )

    def _confirmation(self, version: Version) -> ConfirmationSummary | None:
        """Describes the confirmation, which is read again if it is another version."""
        if version != self._confirmed_version:
            self._confirmed_version, self._confirmed = version, _read_confirmation(self.experiment)
        confirmed = self._confirmed
        if confirmed and confirmed.state != "unreadable" and Lease(self.path / CONFIRMATION_FOLDER).holder():
            return confirmed.model_copy(update={"state": "running"})
        return confirmed

    def _slim(self, event: dict[str, Any]) -> Event:
        """Returns an event with as much of a report as is shown, the metric of the search among it."""
        if event.get("event") != "report":
            return event
        return {key: event[key] for key in (*_REPORT_KEYS, self.experiment.metric) if key in event}

    def _appended_events(self, version: Version) -> list[Event]:
        """Returns the new events; all where the journal is another one, or on an object store."""
        journal = local_path(self.path / JOURNAL_FILE)
        if journal is None:
            self._reset()
            return [self._slim(event) for event in read_events(self.path / JOURNAL_FILE)]
        read = self.read_version
        if not (read and read[:2] == version[:2] and version[-1] >= self._offset):
            self._reset()
        events: list[Event] = []
        with suppress(FileNotFoundError), journal.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                try:
                    events.append(self._slim(json.loads(line)))
                except ValueError as error:
                    raise RequestError(
                        f"{journal} holds a line that is no event: {repair_advice(self.path / JOURNAL_FILE)}"
                    ) from error
                self._offset += len(line)
        return events

    def _unreturned(self, events: list[Event]) -> list[Event]:
        """Leaves out events returned before: after an error, and on an object store, all are read again."""
        returned, self._returned = self._returned, (self._first, self._events)
        if returned is None:
            return []
        first, count = returned
        before = self._events - len(events)
        return events if first != self._first else events[max(0, count - before) :]

    def _reset(self) -> None:
        self.experiment = open_experiment(self.path)
        self._offset = self._events = 0
        self._first = None
        self._report_times.clear()


def _read_confirmation(experiment: Experiment) -> ConfirmationSummary | None:
    try:
        confirmation = read_confirmation(experiment)
        if confirmation is None:
            return None
        winner = confirmation.winner() if confirmation.test_evaluation else None
        return ConfirmationSummary(
            state=confirmation.runs.left_as(),
            runs=sum(run.has_ended for run in confirmation.runs.trials.values()),
            planned=confirmation.planned(),
            verdicts=verdicts(confirmation, winner) if winner else [],
        )
    except RequestError as error:
        return ConfirmationSummary(state="unreadable", error=str(error))


class ExperimentCache:
    """Reads experiments; may be used from several threads."""

    def __init__(self, storage: Location, listener: EventListener = lambda name, event, node: None) -> None:
        """`listener` gets every event that is appended to an experiment after its first read."""
        self.storage = storage
        self._listener = listener
        self._cached: dict[str, CachedExperiment] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._lock = threading.RLock()  # of all caches; each experiment has its own for what is in it
        self._refresh_seconds = 0.0 if local_path(storage) else REMOTE_SECONDS
        self._names: TTLCache[Any, list[str]] = TTLCache(1, max(NAMES_SECONDS, self._refresh_seconds))
        self._holders: TTLCache[Any, str | None] = TTLCache(MAX_HOLDERS, self._refresh_seconds)

    @cachedmethod(attrgetter("_names"), lock=attrgetter("_lock"))
    def names(self) -> list[str]:
        """Returns the names of all experiments, in order. Raises StorageError if the storage cannot be read now."""
        names = folders_holding(self.storage, SEARCH_FILE)
        with self._lock:
            for gone in (self._cached.keys() | self._snapshots.keys()) - set(names):
                self._cached.pop(gone, None)
                self._snapshots.pop(gone, None)
        return names

    @cachedmethod(attrgetter("_holders"), lock=attrgetter("_lock"))
    def holder(self, name: str) -> str | None:
        """Returns the driver that runs the experiment, or None."""
        return Lease(experiment_path(self.storage, name)).holder()

    @contextmanager
    def open(self, name: str) -> Iterator[CachedExperiment]:
        """Gives the experiment as it is now; no other thread reads or changes it within the block.

        Raises NotFoundError if there is none of that name, RequestError if it cannot be read.
        """
        with self._lock:
            cached = self._cached.get(name)
        if cached is None:
            cached = self._uncached(name)
            with self._lock:
                cached = self._cached.setdefault(name, cached)
        with cached.lock:
            if time.monotonic() - cached.refreshed > self._refresh_seconds:
                cached.error = None
                try:
                    self._snapshots[name] = self._refresh(name, cached)
                except (RequestError, OSError) as error:
                    cached.error = error
            if cached.error:
                if not has_file(cached.path / SEARCH_FILE):
                    self.forget(name)
                    raise NotFoundError(f"there is no experiment {name!r}") from cached.error
                raise cached.error
            cached.used = time.monotonic()
            if not self.holder(name):
                cached.experiment.set_pending()
            yield cached
        self._drop_unused(cached)

    def forget(self, name: str) -> None:
        """Drops what was read of an experiment, because it was deleted."""
        with self._lock:
            self._cached.pop(name, None)
            self._snapshots.pop(name, None)

    def snapshot(self, name: str) -> Snapshot:
        """Returns what the list shows of one experiment. Raises as `open` does."""
        known = self._snapshots.get(name)
        if name not in self._cached and known is not None:
            with suppress(OSError):  # `open` tells of it
                found = self._uncached(name)
                if known.version == (found.version(), found.confirmation_version(), found.answers_version()):
                    return known.with_holder(self.holder(name))
        with self.open(name):
            return self._snapshots[name].with_holder(self.holder(name))

    def snapshots(self, owner: str | None = None) -> list[Snapshot]:
        """Returns those of all experiments, or of an owner, by name; one that cannot be read has the reason."""
        found = []
        for name in self.names():
            try:
                found.append(self.snapshot(name))
            except NotFoundError:
                continue  # removed in between
            except RequestError as error:
                listed = unreadable_overview(name, str(error))
                found.append(Snapshot(SearchSummary.model_validate(listed, from_attributes=True)))
        return [snapshot for snapshot in found if owner in (None, snapshot.status.owner)]

    def state(self, name: str) -> SearchState:
        """Returns the state of one experiment. Raises as `open` does."""
        with self.open(name) as cached:
            return "running" if self.holder(name) else cached.experiment.left_as()

    def version(self, name: str) -> ResultsVersion:
        """Identifies what results of an experiment rest on now. Raises as `open` does."""
        with self.open(name) as cached:
            return ResultsVersion(
                journals=(cached.version(), cached.confirmation_version()),
                answers=cached.answers_version(),
                is_growing=bool(self.holder(name) or Lease(cached.path / CONFIRMATION_FOLDER).holder()),
            )

    def _refresh(self, name: str, cached: CachedExperiment) -> Snapshot:
        """Reads what is new; files that were edited by hand may hold anything."""
        try:
            events = cached.refresh()
            snapshot = cached.snapshot()
        except (RequestError, OSError):
            raise
        except Exception as error:
            LOGGER.exception("an experiment cannot be read", extra={"experiment": name})
            raise RequestError(f"{name} cannot be read: its files are damaged ({type(error).__name__})") from error
        driver = (self.holder(name) or "").rpartition(" on ")[2] if events else ""
        for event in events:
            trial = cached.experiment.trials.get(event.get("trial", -1))
            self._listener(name, event, (trial and trial.node) or driver or None)
        return snapshot

    def _uncached(self, name: str) -> CachedExperiment:
        path = experiment_path(self.storage, name)
        if not has_file(path / SEARCH_FILE):
            raise NotFoundError(f"there is no experiment {name!r}")
        return CachedExperiment(path)

    def _drop_unused(self, kept: CachedExperiment) -> None:
        with self._lock:
            by_use = sorted(self._cached.items(), key=lambda item: item[1].used)
            total = sum(cached.experiment.epochs_run for _, cached in by_use)
            for name, cached in by_use:
                if total <= MAX_REPORTS:
                    return
                if cached is not kept:
                    total -= cached.experiment.epochs_run
                    del self._cached[name]


def log_event(name: str, event: Event, node: str | None) -> None:
    """Logs what happened to a search or a trial; not each epoch."""
    kind = event["event"]
    if kind in _LOGGED_EVENTS:
        about = {"experiment": name, "event": kind, "trial": event.get("trial"), "attempt": event.get("attempt")}
        level = logging.WARNING if kind == "failed" else logging.INFO
        log(kind.replace("_", " "), level, **about, node=node, reason=event.get("error") or event.get("reason"))


async def refresh_all(refresh: Callable[[], object]) -> None:
    """Reads what is new by calling `refresh`; errors are logged, and may be over at the next time."""
    try:
        await asyncio.to_thread(refresh)
    except OSError as error:
        log(f"the storage cannot be read: {error}", logging.WARNING)
    except Exception:
        LOGGER.exception("refreshing the experiments failed")


async def poll(refresh: Callable[[], object]) -> None:
    """Calls this every few seconds until it is cancelled, so that events are logged and told as they happen."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        await refresh_all(refresh)
