"""The API: searches, trials, curves, files and progress; starting, stopping and resuming searches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from starlette.responses import Response

from tune_mentormix.cluster.jobs import Job
from tune_mentormix.config.settings import NAME_PATTERN, RESUMABLE
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.experiment.schemas import TrialState
from tune_mentormix.service.admission import ALLOWED, admit, admit_changes, search_schema
from tune_mentormix.service.artifacts import Kind
from tune_mentormix.service.dependencies import Service, Shared, authorize, json_body, read_body, require_bearer
from tune_mentormix.service.error_handlers import CHANGING, READING
from tune_mentormix.service.experiments import NotFoundError, Snapshot
from tune_mentormix.service.jobs import KnownJobs
from tune_mentormix.service.schemas import (
    Accepted,
    AllProgress,
    BestAnswer,
    Curve,
    CurveList,
    JobList,
    JobRecord,
    Problem,
    SearchList,
    SearchStatus,
    TrialList,
    TrialRecord,
)

COLUMNS = ("trial", "state", "epoch", "val_accuracy", "restarts")  # to sort by, besides the hyperparameters
MAX_LOG = 200_000  # characters, the last ones
RETRY_SECONDS = "5"
# A report is other people's text, and its styles stand in it: it may do nothing, not even run as of this origin.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"

Name = Annotated[str, PathParameter(pattern=f"^{NAME_PATTERN}$", description="The experiment's name.")]
Limit = Annotated[int, Query(ge=1, le=1_000, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000, description="How many to leave out first.")]
JsonBody = Annotated[dict[str, Any], Depends(json_body)]
Sort = Annotated[str, Query(max_length=64, description="A column, or a hyperparameter searched.")]


def _json_body(title: str, names: Sequence[str]) -> dict[str, Any]:
    """Documents a body of settings that `json_body` reads: once its sender is known, unlike a body parameter."""
    schema = search_schema(names) | {"title": title}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _media(media_type: str, **schema: str) -> dict[int | str, dict[str, Any]]:
    """Documents an answer that is not JSON."""
    return {200: {"content": {media_type: {"schema": {"type": "string"} | schema}}}}


EVENTS = _media("text/event-stream")
MADE: dict[int | str, dict[str, Any]] = {202: {"model": Problem, "description": "It is being made: ask again."}}
router = APIRouter(prefix="/api/v1", responses=READING, tags=["reading"], dependencies=[Depends(authorize)])
changes = APIRouter(
    prefix="/api/v1",
    responses=CHANGING,
    tags=["searching"],
    dependencies=[Depends(authorize), Depends(require_bearer), Depends(read_body)],
)


@dataclass(frozen=True)
class TrialQuery:
    """Which trials are asked for, and in which order."""

    sort: str = "trial"  # one of COLUMNS or a hyperparameter
    descending: bool = False
    state: TrialState | None = None
    min_accuracy: float | None = None  # on the validation labels

    def select(self, experiment: Experiment) -> list[Trial]:
        """Returns these trials; those without a value of the column come last. Raises NotFoundError without it."""
        if self.sort not in (*COLUMNS, *experiment.hyperparameters):
            raise NotFoundError(f"there is no column {self.sort!r} to sort by")
        keyed = [
            (_sort_key(trial, self.sort), trial)
            for _, trial in sorted(experiment.trials.items())
            if self.state in (None, trial.state)
            and (self.min_accuracy is None or _is_at_least(trial.val_accuracy, self.min_accuracy))
        ]
        known = sorted((item for item in keyed if item[0]), key=lambda item: item[0], reverse=self.descending)
        return [trial for _, trial in [*known, *(item for item in keyed if not item[0])]]


@router.get("/experiments")
def list_searches(service: Shared, limit: Limit = 100, offset: Offset = 0) -> SearchList:
    """All searches, by name."""
    found = service.experiments.snapshots()
    return SearchList(total=len(found), experiments=[shown.status for shown in found[offset : offset + limit]])


@router.get("/experiments/{name}")
def status(service: Shared, name: Name) -> SearchStatus:
    """The state of one search."""
    with service.experiments.open(name) as cached:
        return SearchStatus.of(cached.experiment)


@router.get("/experiments/{name}/trials")
def trials(
    service: Shared,
    name: Name,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "trial",
    descending: bool = False,
    state: Annotated[TrialState | None, Query(description="Only these.")] = None,
    at_least: Annotated[float | None, Query(ge=0, le=1, description="Only with such an accuracy.")] = None,
) -> TrialList:
    """Its trials, sorted and filtered."""
    with service.experiments.open(name) as cached:
        chosen = TrialQuery(sort, descending, state, at_least).select(cached.experiment)
        return TrialList(
            total=len(chosen), trials=[TrialRecord.of(trial) for trial in chosen[offset : offset + limit]]
        )


@router.get("/experiments/{name}/trials/{number}")
def trial(service: Shared, name: Name, number: int) -> TrialRecord:
    """One of its trials."""
    with service.experiments.open(name) as cached:
        found = cached.experiment.trials.get(number)
        if found is None:
            raise NotFoundError(f"{name} has no trial {number}")
        return TrialRecord.of(found)


@router.get("/experiments/{name}/curves")
def curves(service: Shared, name: Name, limit: Limit = 100, offset: Offset = 0) -> CurveList:
    """Validation accuracy by epoch, of each trial."""
    with service.experiments.open(name) as cached:
        experiment = cached.experiment
        numbers = sorted(experiment.trials)
        return CurveList(
            total=len(numbers),
            split="validation",
            labels=experiment.labels_kind,
            rungs=experiment.rungs,
            curves=[Curve.of(experiment.trials[number]) for number in numbers[offset : offset + limit]],
        )


@router.get("/experiments/{name}/best")
def best(service: Shared, name: Name) -> BestAnswer:
    """The best trial so far."""
    with service.experiments.open(name) as cached:
        found = SearchStatus.of(cached.experiment)
    return BestAnswer(split=found.split, labels=found.labels, best=found.best)


@router.get("/experiments/{name}/report", response_class=Response, responses=MADE | _media("text/html"))
async def report(service: Shared, name: Name) -> Response:
    """Its report as one HTML file."""
    return await artifact(service, "report", name)


@router.get(
    "/experiments/{name}/export",
    response_class=Response,
    responses=MADE | _media("application/x-tar", format="binary"),
)
async def export(service: Shared, name: Name) -> Response:
    """The best configuration, its weights and provenance, as a tar archive."""
    return await artifact(service, "export", name)


@router.get("/experiments/{name}/events", response_class=Response, responses=EVENTS)
def events(service: Shared, name: Name) -> Response:
    """Its progress as server-sent events: the state now, and again whenever it has changed."""
    service.experiments.snapshot(name)  # refuses a search that does not exist
    return service.broadcaster.response(name, lambda: service.experiments.snapshot(name).progress())


@router.get("/events", response_class=Response, responses=EVENTS)
def all_events(service: Shared) -> Response:
    """The progress of all searches as server-sent events."""
    experiments, jobs = service.experiments, service.jobs
    return service.broadcaster.response("*", lambda: progress_of_all(experiments.snapshots(), jobs.known()))


@router.get("/jobs")
def jobs(service: Shared) -> JobList:
    """The searches that were submitted, and their state on the cluster."""
    known = service.jobs.known()
    records = [JobRecord(name=job.name, state=job.state, message=job.message or None) for job in known.jobs]
    return JobList(jobs=records, trouble=known.error)


@router.get("/experiments/{name}/logs", response_class=Response, responses=_media("text/plain"))
def logs(service: Shared, name: Name) -> PlainTextResponse:
    """The end of what the latest job of a search printed."""
    return PlainTextResponse(service.jobs.logs(name)[-MAX_LOG:])


@changes.post("/experiments", status_code=202, openapi_extra=_json_body("Submission", ALLOWED))
def submit(service: Shared, settings: JsonBody) -> Accepted:
    """Starts a search on the cluster."""
    return _accepted(submit_search(service, settings))


@changes.post("/experiments/{name}/stop", status_code=202)
def stop(service: Shared, name: Name) -> Accepted:
    """Interrupts a search cleanly; it can be resumed."""
    service.jobs.stop(name)
    return Accepted(name=name, state="stopping")


@changes.post("/experiments/{name}/resume", status_code=202, openapi_extra=_json_body("Changes", RESUMABLE))
def resume(service: Shared, name: Name, settings: JsonBody) -> Accepted:
    """Resumes a search, or extends a finished one."""
    return _accepted(resume_search(service, name, settings))


def submit_search(service: Service, settings: dict[str, Any]) -> Job:
    """Starts a search, if the server allows it. Raises RequestError."""
    return service.jobs.submit(admit(settings, service.server))


def resume_search(service: Service, name: str, changes: dict[str, Any]) -> Job:
    """Resumes a search, if the server allows it. Raises RequestError."""
    with service.experiments.open(name) as cached:
        admitted = admit_changes(cached.experiment, changes, service.server)
    return service.jobs.resume(name, admitted)


def progress_of_all(snapshots: list[Snapshot], known: KnownJobs) -> AllProgress:
    """Returns what the stream of all searches shows."""
    progress = {snapshot.status.name: snapshot.progress() for snapshot in snapshots}
    return AllProgress(experiments=progress, jobs={job.name: job.state for job in known.jobs})


async def artifact(service: Service, kind: Kind, name: str) -> Response:
    """Returns a file of an experiment, or 202 while it is being made."""
    version = await asyncio.to_thread(service.experiments.version, name)
    path = await service.artifacts.get(kind, name, version)
    if path is None:
        return JSONResponse({"detail": f"the {kind} is being made: ask again"}, 202, {"Retry-After": RETRY_SECONDS})
    if not path.is_file():
        raise HTTPException(409, f"the {kind} was removed just now: ask again")
    if kind == "report":
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})
    return FileResponse(path, media_type="application/x-tar", filename=f"{name}.tar")


def _accepted(job: Job) -> Accepted:
    return Accepted(name=job.name, state=job.state)


def _is_at_least(accuracy: float | None, minimum: float) -> bool:
    return accuracy is not None and accuracy >= minimum


def _sort_key(trial: Trial, column: str) -> tuple[Any, ...]:
    """Orders numbers before text; empty for no value."""
    own = {"trial": trial.number, "state": trial.state, "epoch": trial.epoch, "restarts": trial.attempt - 1}
    value: Any = trial.val_accuracy if column == "val_accuracy" else own.get(column, trial.config.get(column))
    if value is None:
        return ()
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))
