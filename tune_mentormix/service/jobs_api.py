"""The API for starting, stopping and going on with searches on the cluster."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from starlette.responses import Response

from tune_mentormix.errors import RequestError
from tune_mentormix.jobs import Job
from tune_mentormix.service.cluster_jobs import ALIVE
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
    stop_search(service, name)
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
    alive = sum(job.state in ALIVE for job in service.known_jobs.look().jobs)
    if alive >= service.server.max_jobs:
        raise RequestError(f"{alive} searches run or wait already, as many as this server allows: stop one first")
    job = service.jobs.submit(admitted)
    service.known_jobs.look_again()
    return job


def stop_search(service: Service, name: str) -> None:
    """Asks a search to stop. Raises RequestError if it does not run on the cluster."""
    service.jobs.stop(name, wait=False)
    service.known_jobs.look_again()


def resume_search(service: Service, name: str, changes: dict[str, Any]) -> Job:
    """Goes on with a search, if the server allows it. Raises RequestError."""
    with service.library.open(name) as reading:
        admitted = admit_changes(reading.experiment, changes, service.server)
    job = service.jobs.resume(name, admitted)
    service.known_jobs.look_again()
    return job


def _accepted(job: Job) -> Accepted:
    return Accepted(name=job.name, state=job.state)
