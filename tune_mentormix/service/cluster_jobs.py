"""What the service asks of a cluster, and what it answers where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tune_mentormix.cluster.jobs import ClusterJobs, Job, StateOf, recorded_jobs, stored_state
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.service.configuration import ServerSettings
from tune_mentormix.storage.paths import Location


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
