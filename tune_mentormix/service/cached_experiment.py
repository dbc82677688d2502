"""`CachedExperiment`: one experiment in memory, of whose journal only what was appended is read again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from trainables.errors import one_line
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import parse_event, repair_advice
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, open_experiment
from tune_mentormix.experiment.schemas import UsableNodes
from tune_mentormix.results.confirmation import CONFIRMATION_FOLDER, read_confirmation
from tune_mentormix.results.confirmation_summary import verdicts
from tune_mentormix.results.evaluation_log import EVALUATION_LOG
from tune_mentormix.results.summary import search_overview
from tune_mentormix.results.verified_labels import VERIFICATION_FOLDER
from tune_mentormix.service.schemas import ConfirmationSummary, SearchSummary
from tune_mentormix.storage.journal import JOURNAL_FILE, Event, read_events
from tune_mentormix.storage.lease import LEASE_FILE, Lease
from tune_mentormix.storage.listing import list_folder, sizes_below
from tune_mentormix.storage.paths import Location, StorageError, local_path
from tune_mentormix.storage.waiting import StorageWait

RATE_SECONDS = 60.0  # over which epochs a second are counted
_ANSWER_KEYS = ("val_images", "val_correct", "val_correct_file")
# The other metrics take most memory.
_METRICS = ("val_accuracy", "noisy_val_accuracy")
_REPORT_KEYS = ("time", "event", "trial", "attempt", "node", "epoch", *_METRICS, *_ANSWER_KEYS)

Version = tuple[Any, ...]  # equal where nothing was written in between


@dataclass(frozen=True)
class Snapshot:
    """One search in a few figures, small enough to keep for all of them; as if no driver held it, but for `now`."""

    status: SearchSummary
    version: Version = ()
    epochs_per_second: float = 0.0
    gpus_held: float = 0.0
    nodes: UsableNodes | None = None  # that its latest driver could use
    holder: str | None = None  # the driver that runs it

    def now(self, drivers: Drivers) -> Snapshot:
        """Returns it with what no journal tells: who runs the experiment or its confirmation now."""
        update: dict[str, Any] = {}
        confirmation = self.status.confirmation
        if drivers.confirms and confirmation and confirmation.state != "unreadable":
            update["confirmation"] = confirmation.model_copy(update={"state": "running"})
        if drivers.holder:
            update |= {"state": "running", "waiting": drivers.waiting, "nodes": self.nodes}
            return replace(self, holder=drivers.holder, status=self.status.model_copy(update=update))
        trials = self.status.trials
        update["trials"] = trials.model_copy(update={"pending": trials.pending + trials.running, "running": 0})
        return replace(self, status=self.status.model_copy(update=update), epochs_per_second=0.0, gpus_held=0.0)


class Drivers(NamedTuple):
    """Who drives an experiment, by its leases."""

    holder: str | None  # of the search
    waiting: StorageWait | None  # since when it waits for the storage
    confirms: bool  # whether a driver runs the confirmation

    @classmethod
    def of(cls, experiment: Location) -> Drivers:
        """Asks the leases; before the journals are read, so that a driver that ends meanwhile leaves a whole one."""
        lease = Lease(experiment)
        holder = lease.holder()
        confirms = Lease(experiment / CONFIRMATION_FOLDER).holder() is not None
        return cls(holder, lease.waiting() if holder else None, confirms)


class CachedExperiment:
    """An experiment and how far its journal was read; its user holds `lock`.

    Attributes:
        refreshed: when the latest refresh began, by the monotonic clock; 0 before the first.
        used: when it was last asked for, by the same clock.
        error: of the latest refresh.
        snapshot: as of the latest refresh; None before the first.
        read_version: what is stored was at least this when it was read; None where that is not known.
    """

    def __init__(self, path: Location) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.refreshed = 0.0
        self.used = 0.0
        self.error: Exception | None = None
        self.snapshot: Snapshot | None = None
        self.experiment = Experiment(path, SearchSettings())
        self.read_version: Version | None = None
        self._offset = 0  # bytes of the journal that were read
        self._first: Event | None = None
        self._events = 0
        self._returned: tuple[Event | None, int] | None = None  # the first event, and how many `refresh` has returned
        self._report_times: deque[float] = deque(maxlen=100_000)  # of the last `RATE_SECONDS`
        self._description: Snapshot | None = None
        self._confirmed_version: Version = ()
        self._confirmed: ConfirmationSummary | None = None

    def refresh(self) -> list[Event]:
        """Reads what was appended, and returns those events; none when an experiment is read for the first time.

        Raises RequestError if the journal or the settings cannot be read, are damaged, or a newer version wrote them.
        """
        try:
            version = self.version()
            if version == self.read_version:
                return []
            events = self._appended_events(version)
            for event in events:
                self.experiment.apply(parse_event(event))
                self._first = self._first or event
                self._events += 1
                if event["event"] == "report" and event["time"] > time.time() - RATE_SECONDS:
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

    def describe(self) -> Snapshot:
        """Describes the experiment as if no driver held it; again only where something was written."""
        confirmed = self.confirmation_version()
        version = (self.read_version or (), confirmed, self.answers_version())
        if self._description is None or self._description.version != version:
            self._description = self._described(version, confirmed)
        since = time.time() - RATE_SECONDS
        while self._report_times and self._report_times[0] < since:
            self._report_times.popleft()
        return replace(self._description, epochs_per_second=len(self._report_times) / RATE_SECONDS)

    def _described(self, version: Version, confirmed: Version) -> Snapshot:
        status = SearchSummary.model_validate(search_overview(self.experiment), from_attributes=True)
        gpus, run = self.experiment.settings.gpus(), self.experiment.last_run
        return Snapshot(
            status.model_copy(
                update={
                    "state": self.experiment.left_as(),
                    "waiting": None,
                    "nodes": None,
                    "confirmation": self._confirmation(confirmed),
                }
            ),
            version,
            nodes=self.experiment.nodes,
            gpus_held=status.trials.running * (gpus if run.gpus_per_trial is None else run.gpus_per_trial),
        )

    def _confirmation(self, version: Version) -> ConfirmationSummary | None:
        """Describes the confirmation, which is read again if it is another version."""
        if version != self._confirmed_version:
            self._confirmed_version, self._confirmed = version, _read_confirmation(self.experiment)
        return self._confirmed

    def _appended_events(self, version: Version) -> list[Event]:
        """Returns the new events; all where the journal is another one, or on an object store."""
        journal = local_path(self.path / JOURNAL_FILE)
        if journal is None:
            self._reset()
            return list(map(self._slimming(), read_events(self.path / JOURNAL_FILE)))
        read = self.read_version
        if not (read and read[:2] == version[:2] and version[-1] >= self._offset):
            self._reset()
        events: list[Event] = []
        slim = self._slimming()
        with suppress(FileNotFoundError), journal.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                try:
                    events.append(slim(from_json(line)))
                except ValueError as error:
                    raise RequestError(
                        f"{journal} holds a line that is no event: {repair_advice(self.path / JOURNAL_FILE)}"
                    ) from error
                self._offset += len(line)
        return events

    def _slimming(self) -> Callable[[Event], Event]:
        """Returns what leaves as much of a report as is shown, the metric of the search among it."""
        keys = dict.fromkeys((*_REPORT_KEYS, self.experiment.metric))

        def slim(event: Event) -> Event:
            if event.get("event") != "report":
                return event
            return {key: event[key] for key in keys if key in event}

        return slim

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
            ended=confirmation.runs.ended,
            verdicts=verdicts(confirmation, winner) if winner else [],
        )
    except RequestError as error:
        return ConfirmationSummary(state="unreadable", error=str(error))
