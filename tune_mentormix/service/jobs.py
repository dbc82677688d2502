"""`JobQueue`: the cluster's jobs for requests that come at once; a cluster that hangs delays no page."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tune_mentormix.cluster.jobs import ENDING_SECONDS, POLL_SECONDS, ClusterJobs, Job, recorded_jobs
from tune_mentormix.cluster.jobs_api import ClusterError
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.schemas import SearchState
from tune_mentormix.results.made_files import KINDS, MadeFiles, MadeKind, read_made
from tune_mentormix.service.experiments import ExperimentCache, NotFoundError
from tune_mentormix.service.request_logging import LOGGER
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.storage.paths import Location, StorageError

MAX_READS = 8  # requests that wait for the cluster at a time, so that others find a thread
MAX_CHANGES = 8
REFRESH_SECONDS = 10.0  # between two questions to the cluster for all its jobs
ANSWER_SECONDS = 3.0  # that a page waits for the answer
LOST_SECONDS = 60.0  # after which an answer is no longer waited for


@dataclass(frozen=True)
class KnownJobs:
    """All jobs, as they were a moment ago."""

    jobs: Sequence[Job]
    error: str | None  # why the cluster could not be asked


class JobQueue:
    """Starts and stops searches on the cluster, and remembers its jobs for a moment."""

    def __init__(self, cluster: ClusterJobs | None, experiments: ExperimentCache, quotas: ServerSettings) -> None:
        """Without a cluster nothing can be started or stopped; with one, as much at once as the quotas allow."""
        self._cluster = cluster
        self._experiments = experiments
        self._quotas = quotas
        self._reads = threading.BoundedSemaphore(MAX_READS)
        self._changes = threading.BoundedSemaphore(MAX_CHANGES)
        self._sending = threading.Lock()  # what was checked before a search is sent still holds when it is
        self._lock = threading.Lock()  # of the next three
        self._known = KnownJobs((), None)
        self._question: Future[KnownJobs] = Future()  # the latest
        self._asked = -math.inf  # by the monotonic clock; -inf: something has changed since

    def submit(self, settings: SearchSettings) -> Job:
        """Starts a search under a name that is not taken. Raises RequestError."""
        from tune_mentormix.config.search_space import resolve_space  # imports Optuna

        with self._slot(self._changes) as cluster, self._sending:
            self._check_quotas(cluster, settings)
            return cluster.submit(resolve_space(settings)[0])

    def resume(self, settings: SearchSettings, changes: dict[str, Any]) -> Job:
        """Resumes a search, which runs with these settings, changes among them. Raises RequestError."""
        with self._free(str(settings.name)) as cluster:
            self._check_quotas(cluster, settings)
            return cluster.resume(str(settings.name), changes, wait=False)

    def confirm(self, settings: SearchSettings, options: dict[str, Any], changes: dict[str, Any]) -> Job:
        """Confirms a search, which trains with these settings, changes among them. Raises RequestError."""
        with self._free(str(settings.name)) as cluster:
            self._check_quotas(cluster, settings)
            return cluster.confirm(str(settings.name), options, changes, wait=False)

    def make(self, kind: MadeKind, settings: SearchSettings, changes: dict[str, Any]) -> Job:
        """Makes files of a search with these settings, changes among them. Raises RequestError."""
        with self._free(str(settings.name)) as cluster:
            self._check_quotas(cluster, settings)
            return cluster.make(str(settings.name), kind, changes, wait=False)

    def made(self, name: str) -> list[MadeFiles]:
        """Returns what was made of a search, or is being made; what no job makes any more was interrupted."""
        runs = {job.action for job in self.known().jobs if job.name == name and job.alive}
        found = []
        for kind in KINDS:
            made = read_made(self._experiments.storage, name, kind)
            if made and made.state == "running" and kind not in runs:
                made = made.model_copy(update={"state": "interrupted"})
            found += [made] if made else []
        return found

    def owner(self, name: str) -> str | None:
        """Returns the owner of a submitted search. Raises RequestError if it was never submitted."""
        with self._slot(self._reads) as cluster:
            return cluster.owner(name)

    def check_idle(self, name: str) -> None:
        """Raises RequestError if a job of this search runs or waits, after a while: it may be ending."""
        deadline = time.monotonic() + ENDING_SECONDS
        while job := next((job for job in self.known().jobs if job.name == name and job.alive), None):
            if job.state == "running" or time.monotonic() > deadline:
                raise RequestError(f"a job of {name} runs or waits on the cluster: stop it first")
            time.sleep(POLL_SECONDS)
            if self._question.done():
                self._ask_again()

    def stop(self, name: str) -> None:
        """Asks a search to stop, and does not wait for it. Raises RequestError if it does not run on the cluster."""
        with self._slot(self._changes) as cluster:
            cluster.stop(name, wait=False)

    def logs(self, name: str) -> str:
        """Returns what the latest job of a search printed. Raises RequestError."""
        with self._slot(self._reads) as cluster:
            return cluster.logs(name)

    def known(self) -> KnownJobs:
        """Returns the jobs of a moment ago; asks again if that is long ago, and waits a little for the answer."""
        with self._lock:
            now = time.monotonic()
            if now - self._asked > (REFRESH_SECONDS if self._question.done() else LOST_SECONDS):
                self._asked, self._question = now, Future()
                threading.Thread(target=self._ask, args=(self._question,), name="jobs", daemon=True).start()
            question, wait = self._question, max(0.0, self._asked + ANSWER_SECONDS - now)
        try:
            return question.result(wait)
        except TimeoutError:
            return KnownJobs(self._known.jobs, "it takes long to answer")

    def _ask(self, question: Future[KnownJobs]) -> None:
        try:
            cluster, storage = self._cluster, self._experiments.storage
            jobs = cluster.jobs(self._state_of) if cluster else recorded_jobs(storage, self._state_of)
            known = KnownJobs(jobs, None)
        except (RequestError, StorageError) as error:
            known = KnownJobs(self._recorded(), str(error))
        except Exception:
            LOGGER.exception("the jobs cannot be listed")
            known = KnownJobs(self._recorded(), "its answer makes no sense: see the server's log")
        with self._lock:
            if question is self._question:  # else a later answer is newer
                self._known = known
        question.set_result(known)

    def _recorded(self) -> Sequence[Job]:
        try:
            return recorded_jobs(self._experiments.storage, self._state_of)
        except (RequestError, OSError):
            return ()

    def _state_of(self, storage: Location, name: str) -> SearchState | None:
        try:
            return self._experiments.state(name)
        except NotFoundError:
            return None

    def _check_quotas(self, cluster: ClusterJobs, settings: SearchSettings) -> None:
        alive = [job for job in cluster.jobs(self._state_of) if job.alive]
        quotas, owner = self._quotas, settings.owner
        if len(alive) >= quotas.max_jobs:
            raise RequestError(
                f"{len(alive)} of at most {quotas.max_jobs} searches run or wait already: stop one first"
            )
        own = [job for job in alive if job.owner == owner]
        if quotas.max_jobs_per_owner is not None and len(own) >= quotas.max_jobs_per_owner:
            raise RequestError(
                f"{len(own)} of at most {quotas.max_jobs_per_owner} searches of {owner} run or wait already: "
                "stop one first"
            )
        held, gpus = sum(job.gpus for job in own), settings.most_gpus()
        if quotas.max_gpus_per_owner is not None and held + gpus > quotas.max_gpus_per_owner:
            raise RequestError(
                f"this search may take {gpus:g} GPUs at once and the others of {owner} take {held:g}, of at most "
                f"{quotas.max_gpus_per_owner:g}: set max_concurrent lower, or stop one first"
            )

    @contextmanager
    def _free(self, name: str) -> Iterator[ClusterJobs]:
        """Waits for the latest job of a search if it is ending, then holds the lock of submissions for the block."""
        with self._slot(self._changes) as cluster:
            cluster.await_ending(name)
            with self._sending:
                yield cluster

    @contextmanager
    def _slot(self, slots: threading.BoundedSemaphore) -> Iterator[ClusterJobs]:
        """Raises RequestError without a cluster, ClusterError if all slots are taken.

        After a change what is known of the jobs is outdated.
        """
        if self._cluster is None:
            raise RequestError("this service has no cluster: set `address` in its configuration")
        if not slots.acquire(blocking=False):
            raise ClusterError("the cluster is asked as much as it may be, or does not answer: try again later")
        try:
            yield self._cluster
        finally:
            slots.release()
        if slots is self._changes:
            self._ask_again()

    def _ask_again(self) -> None:
        """Makes the next question for the jobs go to the cluster."""
        with self._lock:
            self._asked = -math.inf
