"""What the service asks of a cluster, what it answers where there is none, and what it remembers for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment import SearchState
from tune_mentormix.jobs import ClusterJobs, Job, StateOf, recorded_jobs, stored_state
from tune_mentormix.service.configuration import ServerSettings
from tune_mentormix.service.library import Library, NotFoundError
from tune_mentormix.service.logs import LOGGER
from tune_mentormix.settings import SearchSettings
from tune_mentormix.storage import Location

LOOK_SECONDS = 10.0  # between two questions to the cluster for all its jobs
ANSWER_SECONDS = 3.0  # that a page waits for the answer


class Jobs(Protocol):
    """Starts and stops searches; every failure is a RequestError of one line."""

    def submit(self, settings: SearchSettings) -> Job:
        """Starts a search under a name that is not taken."""

    def resume(self, name: str, changes: dict[str, Any]) -> Job:
        """Goes on with a search."""

    def stop(self, name: str, wait: bool = True) -> None:
        """Interrupts a search cleanly."""

    def jobs(self, state_of: StateOf = stored_state) -> Sequence[Job]:
        """All searches that were submitted."""

    def logs(self, name: str) -> str:
        """What the latest job of a search printed."""


class NoCluster:
    """Where no cluster is configured: searches can be looked at only."""

    def __init__(self, storage: Location) -> None:
        """The storage remembers what was submitted into it from elsewhere."""
        self._storage = storage

    def submit(self, settings: SearchSettings) -> Job:
        """Refused."""
        raise self._refusal()

    def resume(self, name: str, changes: dict[str, Any]) -> Job:
        """Refused."""
        raise self._refusal()

    def stop(self, name: str, wait: bool = True) -> None:
        """Refused."""
        raise self._refusal()

    def jobs(self, state_of: StateOf = stored_state) -> Sequence[Job]:
        """As the storage has them."""
        return recorded_jobs(self._storage, state_of)

    def logs(self, name: str) -> str:
        """Refused."""
        raise self._refusal()

    def _refusal(self) -> RequestError:
        return RequestError("this service has no cluster: set `address` in its configuration")


def jobs_of(server: ServerSettings) -> Jobs:
    """Of the cluster that the configuration names. Raises RequestError if that cannot be one."""
    if server.address is None:
        return NoCluster(server.storage)
    return ClusterJobs(server.address, server.storage, server.insecure)


@dataclass(frozen=True)
class KnownJobs:
    """The jobs, as they were a moment ago."""

    jobs: Sequence[Job]
    trouble: str | None  # why the cluster could not be asked


class JobsView:
    """All jobs, asked for every few seconds at most, in a thread of its own: a cluster that hangs delays no page."""

    def __init__(self, jobs: Jobs, library: Library) -> None:
        """Nothing is asked yet."""
        self._jobs = jobs
        self._library = library
        self._known = KnownJobs((), None)
        self._asked = 0.0  # by the monotonic clock
        self._answered = threading.Event()
        self._answered.set()
        self._lock = threading.Lock()

    def look(self) -> KnownJobs:
        """What is known; asks if that is old, and waits a little for the answer."""
        with self._lock:
            now = time.monotonic()
            if self._answered.is_set() and (not self._asked or now - self._asked > LOOK_SECONDS):
                self._answered.clear()
                self._asked = now
                threading.Thread(target=self._ask, name="jobs", daemon=True).start()
            patience = self._asked + ANSWER_SECONDS - now
        if self._answered.wait(max(0.0, patience)):
            return self._known
        return KnownJobs(self._known.jobs, "it takes long to answer")

    def ask(self) -> Sequence[Job]:
        """The jobs as they are now. Raises RequestError if the cluster cannot be asked."""
        return self._jobs.jobs(self._state_of)

    def look_again(self) -> None:
        """The next look asks: something was changed."""
        self._asked = 0.0

    def _ask(self) -> None:
        try:
            self._known = self._answer()
        finally:
            self._answered.set()

    def _answer(self) -> KnownJobs:
        try:
            return KnownJobs(self.ask(), None)
        except RequestError as error:
            return KnownJobs(self._recorded(), str(error))
        except Exception:
            LOGGER.exception("the jobs cannot be listed")
            return KnownJobs(self._recorded(), "its answer makes no sense: the server's log says more")

    def _recorded(self) -> Sequence[Job]:
        try:
            return recorded_jobs(self._library.storage, self._state_of)
        except (RequestError, OSError):
            return ()

    def _state_of(self, storage: Location, name: str) -> SearchState | None:
        try:
            return self._library.state(name)
        except (NotFoundError, RequestError):
            return None
