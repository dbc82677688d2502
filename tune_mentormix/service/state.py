"""What the routes share: the parts of one running service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from tune_mentormix.service.artifacts import Artifacts
from tune_mentormix.service.configuration import ServerSettings
from tune_mentormix.service.events import Streams
from tune_mentormix.service.jobs_view import JobsView
from tune_mentormix.service.library import Library
from tune_mentormix.service.rates import Rates
from tune_mentormix.service.sessions import Session, Sessions
from tune_mentormix.service.shared_jobs import SharedJobs
from tune_mentormix.service.tokens import Principal, Tokens


@dataclass(frozen=True)
class Service:
    """One service."""

    server: ServerSettings
    tokens: Tokens
    library: Library
    jobs: SharedJobs
    known_jobs: JobsView
    sessions: Sessions
    streams: Streams
    artifacts: Artifacts
    failed_logins: Rates


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Shared = Annotated[Service, Depends(_service)]


def principal_of(request: Request) -> Principal:
    """Who asks; the guard let nobody else through."""
    return cast(Principal, request.scope["state"]["principal"])


def session_of(request: Request) -> Session | None:
    """The browser's session, if it is one that asks."""
    return cast("Session | None", request.scope["state"]["session"])


def form_of(request: Request) -> dict[str, str]:
    """The fields of the form that the guard read and checked."""
    return cast("dict[str, str]", request.scope["state"]["form"])
