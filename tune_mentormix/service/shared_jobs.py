"""The cluster's jobs as requests that come at once may use them.

Searches are sent one after another, so that what was checked before one is sent still holds when it is. Few requests
wait for the cluster at a time, so that one that hangs takes no other request's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tune_mentormix.cluster.jobs import Job
from tune_mentormix.cluster.jobs_api import ClusterError
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.service.cluster_jobs import Jobs
from tune_mentormix.service.jobs_view import JobsView

MOST_READING = 8  # requests that wait for the cluster at a time
MOST_CHANGING = 8


class SharedJobs:
    """Starts and stops searches for everyone who may."""

    def __init__(self, jobs: Jobs, known: JobsView, most: int) -> None:
        """At most so many searches run or wait at once; `known` is told of every change."""
        self._jobs = jobs
        self._known = known
        self._most = most
        self._reading = threading.BoundedSemaphore(MOST_READING)
        self._changing = threading.BoundedSemaphore(MOST_CHANGING)
        self._sending = threading.Lock()

    def submit(self, settings: SearchSettings) -> Job:
        """Starts a search under a name that is not taken. Raises RequestError."""
        from tune_mentormix.config.search_space import resolve_space  # imports Optuna

        with _a_place(self._changing), self._sending:
            self._check_room()
            job = self._jobs.submit(resolve_space(settings)[0])
        self._known.look_again()
        return job

    def resume(self, name: str, changes: dict[str, Any]) -> Job:
        """Goes on with a search. Raises RequestError."""
        with _a_place(self._changing), self._sending:
            self._check_room()
            job = self._jobs.resume(name, changes)
        self._known.look_again()
        return job

    def stop(self, name: str) -> None:
        """Asks a search to stop, and does not wait for it. Raises RequestError if it does not run on the cluster."""
        with _a_place(self._changing):
            self._jobs.stop(name, wait=False)
        self._known.look_again()

    def logs(self, name: str) -> str:
        """What the latest job of a search printed. Raises RequestError."""
        with _a_place(self._reading):
            return self._jobs.logs(name)

    def _check_room(self) -> None:
        alive = sum(job.alive for job in self._known.ask())
        if alive >= self._most:
            raise RequestError(f"{alive} of at most {self._most} searches run or wait already: stop one first")


@contextmanager
def _a_place(places: threading.BoundedSemaphore) -> Iterator[None]:
    """Raises ClusterError if all are taken."""
    if not places.acquire(blocking=False):
        raise ClusterError("the cluster is asked as much as it may be, or does not answer: try again later")
    try:
        yield
    finally:
        places.release()
