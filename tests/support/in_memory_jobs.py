"""A cluster that remembers what it was asked and runs nothing: the service's seam, for tests without Ray."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from tune_mentormix.cluster.jobs import ClusterJobs, Job, StateOf, stored_state
from tune_mentormix.cluster.submissions import Action
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.results.made_files import MadeKind


class InMemoryJobs(ClusterJobs):
    """Has the methods that the service calls; none of them makes a request."""

    def __init__(self) -> None:
        self.known: dict[str, Job] = {}
        self.submitted: list[SearchSettings] = []
        self.changes: list[tuple[str, dict[str, Any]]] = []

    def submit(self, settings: SearchSettings) -> Job:
        assert settings.name is not None
        if settings.name in self.known:
            raise RequestError(f"{settings.name} exists already; choose another --name")
        self.submitted.append(settings)
        return self._begin(settings.name, settings.owner)

    def resume(self, name: str, changes: dict[str, Any], wait: bool = True) -> Job:
        self.changes.append((name, changes))
        return self._begin(name)

    def confirm(self, name: str, options: dict[str, Any], changes: dict[str, Any], wait: bool = True) -> Job:
        self.changes.append((name, options | changes))
        return self._begin(name)

    def make(self, name: str, kind: MadeKind, changes: dict[str, Any], wait: bool = True) -> Job:
        self.changes.append((name, {"kind": kind} | changes))
        return self._begin(name, action=kind)

    def await_ending(self, name: str) -> dict[str, Any]:
        return {}

    def stop(self, name: str, wait: bool = True) -> None:
        if name not in self.known:
            raise RequestError(f"{name} was never submitted")
        self.known[name] = replace(self.known[name], state="interrupted", alive=False)

    def jobs(self, state_of: StateOf = stored_state) -> list[Job]:
        return list(self.known.values())

    def logs(self, name: str) -> str:
        if name not in self.known:
            raise RequestError(f"{name} was never submitted")
        return f"the log of {name}\n"

    def owner(self, name: str) -> str | None:
        if name not in self.known:
            raise RequestError(f"{name} was never submitted")
        return self.known[name].owner

    def _begin(self, name: str, owner: str | None = None, action: Action = "search") -> Job:
        job = Job(name, f"{name}-1", "pending", time.time(), None, "", alive=True, owner=owner, action=action)
        self.known[name] = job
        return job
