"""`ExperimentCache`: all experiments of a storage in memory, for many requests at once.

A large experiment takes megabytes: those not used lately are dropped, except for a snapshot of each.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any, NamedTuple

from cachetools import TTLCache, cachedmethod

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, experiment_path
from tune_mentormix.experiment.schemas import SearchState, unreadable_overview
from tune_mentormix.results.confirmation import CONFIRMATION_FOLDER
from tune_mentormix.service.cached_experiment import CachedExperiment, Drivers, Snapshot, Version
from tune_mentormix.service.request_logging import LOGGER, log
from tune_mentormix.service.schemas import SearchSummary
from tune_mentormix.storage.journal import Event
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.listing import folders_holding, has_file
from tune_mentormix.storage.paths import Location, local_path

MAX_REPORTS = 150_000  # in memory, of all experiments together: about 100 MB
REMOTE_SECONDS = 5.0  # between two reads of an object store, where each is a request
NAMES_SECONDS = 1.0  # between two listings of the storage
POLL_SECONDS = 10.0
_LOGGED_EVENTS = ("run_started", "run_ended", "proposed", "stopped", "finished", "failed")


class ResultsVersion(NamedTuple):
    """What the results of an experiment rest on; the parts are equal where nothing was written in between."""

    journals: Version  # of the search and its confirmation
    answers: Version = ()  # verified labels
    is_growing: bool = False  # whether a driver writes to one of the journals


EventListener = Callable[[str, Event, str | None], None]  # experiment, event, the node where it happened


class NotFoundError(Exception):
    """There is no experiment, or no trial, of that name."""


class ExperimentCache:
    """Reads experiments; may be used from several threads.

    On a disk, what is told of an experiment is as new as the request: it rests on a read that began after the request
    did, which may be that of another request. The list of names is up to `NAMES_SECONDS` old.
    """

    def __init__(self, storage: Location, listener: EventListener = lambda name, event, node: None) -> None:
        """`listener` gets every event that is appended to an experiment after its first read."""
        self.storage = storage
        self._listener = listener
        self._cached: dict[str, CachedExperiment] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._lock = threading.RLock()  # of all caches; each experiment has its own for what is in it
        self._refresh_seconds = 0.0 if local_path(storage) else REMOTE_SECONDS
        self._names: TTLCache[Any, list[str]] = TTLCache(1, max(NAMES_SECONDS, self._refresh_seconds))

    @cachedmethod(attrgetter("_names"), lock=attrgetter("_lock"))
    def names(self) -> list[str]:
        """Returns the names of all experiments, in order. Raises StorageError if the storage cannot be read now."""
        names = folders_holding(self.storage, SEARCH_FILE)
        with self._lock:
            for gone in (self._cached.keys() | self._snapshots.keys()) - set(names):
                self._cached.pop(gone, None)
                self._snapshots.pop(gone, None)
        return names

    @contextmanager
    def open(self, name: str) -> Iterator[CachedExperiment]:
        """Gives the experiment as it is now; no other thread reads or changes it within the block.

        Raises NotFoundError if there is none of that name, RequestError if it cannot be read.
        """
        with self._refreshed(name, time.monotonic()) as (cached, snapshot):
            cached.used = time.monotonic()
            if not snapshot.holder:
                cached.experiment.set_pending()
            yield cached

    def forget(self, name: str) -> None:
        """Drops what was read of an experiment, because it was deleted."""
        with self._lock:
            self._cached.pop(name, None)
            self._snapshots.pop(name, None)

    def snapshot(self, name: str) -> Snapshot:
        """Returns what the list shows of one experiment. Raises as `open` does."""
        return self._snapshot(name, time.monotonic())

    def snapshots(self, owner: str | None = None) -> list[Snapshot]:
        """Returns those of all experiments, or of an owner, by name; one that cannot be read has the reason."""
        asked, found = time.monotonic(), []
        for name in self.names():
            try:
                found.append(self._snapshot(name, asked))
            except NotFoundError:
                continue  # removed in between
            except RequestError as error:
                listed = unreadable_overview(name, str(error))
                found.append(Snapshot(SearchSummary.model_validate(listed, from_attributes=True)))
        return [snapshot for snapshot in found if owner in (None, snapshot.status.owner)]

    def state(self, name: str) -> SearchState:
        """Returns the state of one experiment. Raises as `open` does."""
        with self._refreshed(name, time.monotonic()) as (cached, snapshot):
            return "running" if snapshot.holder else cached.experiment.left_as()

    def version(self, name: str) -> ResultsVersion:
        """Identifies what results of an experiment rest on now. Raises as `open` does."""
        with self._refreshed(name, time.monotonic()) as (cached, snapshot):
            return ResultsVersion(
                journals=(cached.version(), cached.confirmation_version()),
                answers=cached.answers_version(),
                is_growing=bool(snapshot.holder or Lease(cached.path / CONFIRMATION_FOLDER).holder()),
            )

    def _snapshot(self, name: str, asked: float) -> Snapshot:
        """Returns what the list shows of one experiment, at `asked` by the monotonic clock or later."""
        known = self._snapshots.get(name)
        if name not in self._cached and known is not None:
            with suppress(OSError):  # reading it tells of it
                found = self._uncached(name)
                drivers = Drivers.of(found.path)
                if known.version == (found.version(), found.confirmation_version(), found.answers_version()):
                    return known.now(drivers)
        with self._refreshed(name, asked) as (_, snapshot):
            return snapshot

    @contextmanager
    def _refreshed(self, name: str, asked: float) -> Iterator[tuple[CachedExperiment, Snapshot]]:
        """Gives the experiment and its snapshot as of `asked` or later: one read serves all who wait."""
        with self._lock:
            cached = self._cached.get(name)
        if cached is None:
            cached = self._uncached(name)
            with self._lock:
                cached = self._cached.setdefault(name, cached)
        with cached.lock:
            if cached.refreshed < asked - self._refresh_seconds:
                cached.error = None
                try:
                    self._refresh(name, cached)
                except (RequestError, OSError) as error:
                    cached.error = error
            if cached.error:
                if not has_file(cached.path / SEARCH_FILE):
                    self.forget(name)
                    raise NotFoundError(f"there is no experiment {name!r}") from cached.error
                raise cached.error
            assert cached.snapshot is not None
            yield cached, cached.snapshot
        self._drop_unused(cached)

    def _refresh(self, name: str, cached: CachedExperiment) -> None:
        """Reads what is new; files that were edited by hand may hold anything."""
        cached.refreshed = time.monotonic()
        try:
            drivers = Drivers.of(cached.path)
            events = cached.refresh()
            description = cached.describe()
        except (RequestError, OSError):
            raise
        except Exception as error:
            LOGGER.exception("an experiment cannot be read", extra={"experiment": name})
            raise RequestError(f"{name} cannot be read: its files are damaged ({type(error).__name__})") from error
        self._snapshots[name] = description
        cached.snapshot = description.now(drivers)
        driver = (drivers.holder or "").rpartition(" on ")[2]
        for event in events:
            trial = cached.experiment.trials.get(event.get("trial", -1))
            self._listener(name, event, (trial and trial.node) or driver or None)

    def _uncached(self, name: str) -> CachedExperiment:
        path = experiment_path(self.storage, name)
        if not has_file(path / SEARCH_FILE):
            raise NotFoundError(f"there is no experiment {name!r}")
        return CachedExperiment(path)

    def _drop_unused(self, kept: CachedExperiment) -> None:
        """Drops those that were asked for longest ago, where all together are too large; never the one just read."""
        with self._lock:
            total = sum(cached.experiment.epochs_run for cached in self._cached.values())
            if total <= MAX_REPORTS:
                return
            for name, cached in sorted(self._cached.items(), key=lambda item: item[1].used):
                if cached is not kept:
                    total -= cached.experiment.epochs_run
                    del self._cached[name]
                if total <= MAX_REPORTS:
                    return


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
