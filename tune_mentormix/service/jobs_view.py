"""What the service remembers for a moment of the cluster's jobs: pages wait for no cluster that hangs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tune_mentormix.cluster.jobs import Job, recorded_jobs
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.schemas import SearchState
from tune_mentormix.service.cluster_jobs import Jobs
from tune_mentormix.service.library import Library, NotFoundError
from tune_mentormix.service.logs import LOGGER
from tune_mentormix.storage.paths import Location

LOOK_SECONDS = 10.0  # between two questions to the cluster for all its jobs
ANSWER_SECONDS = 3.0  # that a page waits for the answer
LOST_SECONDS = 60.0  # after which no answer is waited for any more


class _Question:
    """To the cluster, for all its jobs."""

    def __init__(self, asked: float) -> None:
        self.asked = asked  # by the monotonic clock
        self.answered = threading.Event()


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
        self._question = _Question(-math.inf)  # the latest
        self._question.answered.set()
        self._changed = False  # since it was asked
        self._lock = threading.Lock()

    def look(self) -> KnownJobs:
        """What is known; asks if that is old, and waits a little for the answer."""
        with self._lock:
            now, question = time.monotonic(), self._question
            wait = LOOK_SECONDS if question.answered.is_set() else LOST_SECONDS
            if self._changed or now - question.asked > wait:
                self._changed = False
                question = self._question = _Question(now)
                threading.Thread(target=self._find_out, args=(question,), name="jobs", daemon=True).start()
        if question.answered.wait(max(0.0, question.asked + ANSWER_SECONDS - now)):
            return self._known
        return KnownJobs(self._known.jobs, "it takes long to answer")

    def ask(self) -> Sequence[Job]:
        """The jobs as they are now. Raises RequestError if the cluster cannot be asked."""
        return self._jobs.jobs(self._state_of)

    def look_again(self) -> None:
        """The next look asks: something was changed."""
        self._changed = True

    def _find_out(self, question: _Question) -> None:
        try:
            known = self._answer()
            with self._lock:
                if question is self._question:  # else a later one tells more
                    self._known = known
        finally:
            question.answered.set()

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
