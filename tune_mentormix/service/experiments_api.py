"""The API for reading: searches, trials, curves, the best, reports, exports and progress."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, JSONResponse
from starlette.responses import Response

from tune_mentormix.experiment.experiment import Trial
from tune_mentormix.service.artifacts import Kind
from tune_mentormix.service.failures import READING
from tune_mentormix.service.guard import problem
from tune_mentormix.service.jobs_view import KnownJobs
from tune_mentormix.service.library import NotFoundError
from tune_mentormix.service.models import (
    BestAnswer,
    Curve,
    CurveList,
    Limit,
    Name,
    Offset,
    Preparing,
    SearchList,
    SearchStatus,
    SearchSummary,
    TrialList,
    TrialRecord,
    TrialStateName,
)
from tune_mentormix.service.state import Service, Shared
from tune_mentormix.service.summary import Summary
from tune_mentormix.service.trial_table import OWN_COLUMNS, TrialQuery, select_trials

router = APIRouter(prefix="/api/v1", responses=READING, tags=["reading"])
# A report is other people's text, and its styles stand in it: it may do nothing, not even run as of this origin.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
RETRY_SECONDS = "5"


@router.get("/experiments")
def list_searches(service: Shared, limit: Limit = 100, offset: Offset = 0) -> SearchList:
    """All searches, by name."""
    found = service.library.summaries()
    shown = [SearchSummary.model_validate(summary.as_json()) for summary in found[offset : offset + limit]]
    return SearchList(total=len(found), experiments=shown)


@router.get("/experiments/{name}")
def status(service: Shared, name: Name) -> SearchStatus:
    """How one search stands."""
    with service.library.open(name) as reading:
        return SearchStatus.model_validate(finite(reading.experiment.status().model_dump()))


@router.get("/experiments/{name}/trials")
def trials(
    service: Shared,
    name: Name,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Annotated[str, Query(max_length=64, description="A column, or a hyperparameter searched.")] = "trial",
    descending: bool = False,
    state: Annotated[TrialStateName | None, Query(description="Only these.")] = None,
    at_least: Annotated[float | None, Query(ge=0, le=1, description="Only with such an accuracy.")] = None,
) -> TrialList:
    """Its trials, sorted and filtered."""
    with service.library.open(name) as reading:
        if sort not in (*OWN_COLUMNS, *reading.experiment.hyperparameters):
            raise NotFoundError(f"there is no column {sort!r} to sort by")
        chosen = select_trials(reading.experiment, TrialQuery(sort, descending, state, at_least))
        return TrialList(total=len(chosen), trials=[_record(trial) for trial in chosen[offset : offset + limit]])


@router.get("/experiments/{name}/trials/{number}")
def trial(service: Shared, name: Name, number: int) -> TrialRecord:
    """One of its trials."""
    with service.library.open(name) as reading:
        found = reading.experiment.trials.get(number)
        if found is None:
            raise NotFoundError(f"{name} has no trial {number}")
        return _record(found)


@router.get("/experiments/{name}/curves")
def curves(service: Shared, name: Name, limit: Limit = 100, offset: Offset = 0) -> CurveList:
    """Validation accuracy by epoch, of each trial."""
    with service.library.open(name) as reading:
        experiment = reading.experiment
        numbers = sorted(experiment.trials)
        return CurveList(
            total=len(numbers),
            split="validation",
            labels=experiment.labels_kind,
            rungs=experiment.rungs,
            curves=[_curve(experiment.trials[number]) for number in numbers[offset : offset + limit]],
        )


@router.get("/experiments/{name}/best")
def best(service: Shared, name: Name) -> BestAnswer:
    """The best trial so far."""
    with service.library.open(name) as reading:
        return BestAnswer.model_validate(finite(reading.experiment.status().model_dump()))


_MADE: dict[int | str, dict[str, Any]] = {202: {"model": Preparing, "description": "It is being made: ask again."}}


@router.get(
    "/experiments/{name}/report",
    response_class=Response,
    responses=_MADE | {200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def report(service: Shared, name: Name) -> Response:
    """Its report as one HTML file."""
    return await made(service, "report", name)


@router.get(
    "/experiments/{name}/export",
    response_class=Response,
    responses=_MADE | {200: {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def export(service: Shared, name: Name) -> Response:
    """The best configuration, its weights and where they come from, as a tar archive."""
    return await made(service, "export", name)


@router.get(
    "/experiments/{name}/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
def events(service: Shared, name: Name) -> Response:
    """Its progress as server-sent events: one now, and one whenever something changed."""

    def look() -> dict[str, Any]:
        return service.library.summary(name).progress()

    look()  # refuses a search that is not there
    return service.streams.response(name, look)


@router.get(
    "/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
def all_events(service: Shared) -> Response:
    """The progress of all searches as server-sent events."""

    def look() -> dict[str, Any]:
        return progress_of_all(service.library.summaries(), service.known_jobs.look())

    return service.streams.response("*", look)


def progress_of_all(summaries: list[Summary], known: KnownJobs) -> dict[str, Any]:
    """What the stream of all searches says."""
    found = {summary.name: summary.progress() for summary in summaries}
    return {"experiments": found, "jobs": {job.name: job.state for job in known.jobs}}


async def made(service: Service, kind: Kind, name: str) -> Response:
    """A file of an experiment, or the answer that it is being made."""
    version = await asyncio.to_thread(service.library.version, name)
    path = await service.artifacts.get(kind, name, version)
    if path is None:
        return JSONResponse({"detail": f"the {kind} is being made: ask again"}, 202, {"Retry-After": RETRY_SECONDS})
    if not path.is_file():
        return problem(409, f"the {kind} was removed meanwhile: ask again")
    if kind == "report":
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})
    return FileResponse(path, media_type="application/x-tar", filename=f"{name}.tar")


def finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity; a journal or settings written by other hands may."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _record(trial: Trial) -> TrialRecord:
    return TrialRecord(
        trial=trial.number,
        state=trial.state,
        control=trial.control,
        config=finite(trial.config),
        epoch=trial.epoch,
        val_accuracy=trial.val_accuracy,
        best_epoch=trial.best_epoch,
        restarts=trial.attempt - 1,
        error=trial.error,
    )


def _curve(trial: Trial) -> Curve:
    curve = trial.curve
    return Curve(
        trial=trial.number,
        state=trial.state,
        control=trial.control,
        epochs=list(curve),
        val_accuracy=list(curve.values()),
    )
