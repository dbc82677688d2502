"""The API for starting, stopping and going on with searches on the cluster."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from starlette.responses import Response

from tune_mentormix.cluster.jobs import Job
from tune_mentormix.service.failures import CHANGING, READING
from tune_mentormix.service.models import Accepted, JobList, JobRecord, Name
from tune_mentormix.service.policy import admit, admit_changes
from tune_mentormix.service.state import Service, Shared
from tune_mentormix.service.submission import Changes, Submission

router = APIRouter(prefix="/api/v1", tags=["searching"])
MOST_LOG = 200_000  # characters, the last ones


@router.post("/experiments", status_code=202, responses=CHANGING)
def submit(service: Shared, submission: Submission) -> Accepted:
    """Starts a search on the cluster."""
    return _accepted(submit_search(service, submission.root))


@router.post("/experiments/{name}/stop", status_code=202, responses=CHANGING)
def stop(service: Shared, name: Name) -> Accepted:
    """Interrupts a search cleanly; it can be gone on with."""
    service.jobs.stop(name)
    return Accepted(name=name, state="stopping")


@router.post("/experiments/{name}/resume", status_code=202, responses=CHANGING)
def resume(service: Shared, name: Name, changes: Changes) -> Accepted:
    """Goes on with a search, or extends a finished one."""
    return _accepted(resume_search(service, name, changes.root))


@router.get("/jobs", responses=READING)
def jobs(service: Shared) -> JobList:
    """What was submitted, and what the cluster says of it."""
    known = service.known_jobs.look()
    records = [JobRecord(name=job.name, state=job.state, message=job.message or None) for job in known.jobs]
    return JobList(jobs=records, trouble=known.trouble)


@router.get(
    "/experiments/{name}/logs",
    response_class=Response,
    responses=READING | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def logs(service: Shared, name: Name) -> PlainTextResponse:
    """The end of what the latest job of a search printed."""
    return PlainTextResponse(service.jobs.logs(name)[-MOST_LOG:])


def submit_search(service: Service, settings: dict[str, Any]) -> Job:
    """Starts a search, if the server allows it. Raises RequestError."""
    admitted = admit(settings, service.server)
    return service.jobs.submit(admitted)


def resume_search(service: Service, name: str, changes: dict[str, Any]) -> Job:
    """Goes on with a search, if the server allows it. Raises RequestError."""
    with service.library.open(name) as reading:
        admitted = admit_changes(reading.experiment, changes, service.server)
    return service.jobs.resume(name, admitted)


def _accepted(job: Job) -> Accepted:
    return Accepted(name=job.name, state=job.state)
