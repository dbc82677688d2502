"""The API: searches, trials, curves, files and progress; starting, stopping and resuming searches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from tune_mentormix.config.settings import NAME_PATTERN, RESUMABLE
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import TrialState
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.clean_terms import clean_estimates
from tune_mentormix.results.cleanup import DiskUsage, disk_usage, remove_old_checkpoints, remove_whole
from tune_mentormix.results.comparison import ComparisonRecord, compare
from tune_mentormix.results.made_files import KINDS
from tune_mentormix.results.summary import search_overview, search_status
from tune_mentormix.service import schemas
from tune_mentormix.service.admission import (
    ALLOWED,
    CONFIRMATION_CHANGES,
    ConfirmationOptions,
    admit,
    admit_changes,
    admit_confirmation,
    search_schema,
)
from tune_mentormix.service.artifacts import Kind
from tune_mentormix.service.cached_experiment import Snapshot
from tune_mentormix.service.dependencies import (
    Authenticated,
    Service,
    Shared,
    authorize,
    check_owner,
    json_body,
    read_body,
    require_bearer,
)
from tune_mentormix.service.experiments import NotFoundError
from tune_mentormix.service.jobs import KnownJobs
from tune_mentormix.service.sse import EventStream

COLUMNS = ("trial", "state", "epoch", "val_accuracy", "restarts")  # to sort by, besides the hyperparameters
MAX_LOG = 200_000  # characters, the last ones
RETRY_SECONDS = "5"
PROGRESS: dict[str, Any] = {  # what event streams show of a search's status
    **dict.fromkeys(("state", "trials", "num_samples", "epochs_run", "nodes", "confirmation"), True),
    "best": {"trial_id", "val_accuracy", "epoch"},
}
# A report is other people's text, and its styles stand in it: it may do nothing, not even run as of this origin.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"

NameText = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Name = Annotated[str, PathParameter(pattern=f"^{NAME_PATTERN}$", description="The experiment's name.")]
Owner = Annotated[str, Query(max_length=64, description="Only the searches of this owner.")]
Names = Annotated[Sequence[NameText], Query(min_length=2, max_length=8, description="The searches, at least two.")]
Limit = Annotated[int, Field(ge=1, le=1_000, description="How many at most.")]
Offset = Annotated[int, Field(ge=0, le=1_000_000_000, description="How many to leave out first.")]
JsonBody = Annotated[dict[str, Any], Depends(json_body)]
Responses = dict[int | str, dict[str, Any]]


def json_body_of(title: str, names: Iterable[str]) -> dict[str, Any]:
    """Documents a body of settings that `json_body` reads: once its sender is known, unlike a body parameter."""
    schema = search_schema(names) | {"title": title}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _confirmation_body() -> dict[str, Any]:
    body = json_body_of("Confirmation", CONFIRMATION_CHANGES)
    schema = body["requestBody"]["content"]["application/json"]["schema"]
    schema["properties"] |= ConfirmationOptions.model_json_schema()["properties"]
    return body


def media(media_type: str, **schema: str) -> Responses:
    """Documents an answer that is not JSON."""
    return {200: {"content": {media_type: {"schema": {"type": "string"} | schema}}}}


READING: Responses = {status: {"model": schemas.Problem} for status in (401, 404, 409, 422, 429, 503)}
CHANGING = READING | {status: {"model": schemas.Problem} for status in (400, 403, 408, 413)}
EVENTS = media("text/event-stream")
ARCHIVE = media("application/x-tar", format="binary")
MADE: Responses = {202: {"model": schemas.Problem, "description": "It is being made: ask again."}}
router = APIRouter(prefix="/api/v1", responses=READING, tags=["reading"], dependencies=[Depends(authorize)])
changes = APIRouter(
    prefix="/api/v1",
    responses=CHANGING,
    tags=["searching"],
    dependencies=[Depends(authorize), Depends(require_bearer), Depends(read_body)],
)


class TrialQuery(BaseModel):
    """The query of a list of trials: which, and in which order."""

    sort: str = Field("trial", max_length=64, description="A column, or a hyperparameter searched.")
    descending: bool = False
    state: TrialState | None = Field(None, description="Only these.")
    at_least: float | None = Field(None, ge=0, le=1, description="Only with such an accuracy.")

    def select(self, experiment: Experiment) -> list[Trial]:
        """Returns these trials; those without a value of the column come last. Raises NotFoundError without it."""
        if self.sort not in (*COLUMNS, *experiment.hyperparameters):
            raise NotFoundError(f"there is no column {self.sort!r} to sort by")
        keyed = [
            (_sort_key(trial, self.sort), trial)
            for _, trial in sorted(experiment.trials.items())
            if self.state in (None, trial.state)
            and (self.at_least is None or (trial.val_accuracy is not None and trial.val_accuracy >= self.at_least))
        ]
        known = sorted((item for item in keyed if item[0]), key=lambda item: item[0], reverse=self.descending)
        return [trial for _, trial in [*known, *(item for item in keyed if not item[0])]]


class TrialPageQuery(TrialQuery):
    """The query of one page of a list of trials."""

    limit: Limit = 100
    offset: Offset = 0


@router.get("/experiments")
def list_searches(
    service: Shared, owner: Owner | None = None, limit: Limit = 100, offset: Offset = 0
) -> schemas.SearchList:
    """All searches, or those of an owner, by name."""
    found = service.experiments.snapshots(owner)
    shown = [snapshot.status for snapshot in found[offset : offset + limit]]
    return schemas.SearchList(total=len(found), experiments=shown)


@router.get("/experiments/{name}")
def status(service: Shared, name: Name) -> schemas.SearchStatus:
    """The state of one search."""
    with service.experiments.open(name) as cached:
        shown = schemas.SearchStatus.model_validate(search_status(cached.experiment), from_attributes=True)
        assert cached.snapshot is not None
        return shown.model_copy(update={"confirmation": cached.snapshot.status.confirmation})


@router.get("/experiments/{name}/trials")
def trials(service: Shared, name: Name, query: Annotated[TrialPageQuery, Query()]) -> schemas.TrialList:
    """Its trials, sorted and filtered."""
    with service.experiments.open(name) as cached:
        chosen = query.select(cached.experiment)
        shown = chosen[query.offset : query.offset + query.limit]
        return schemas.TrialList(total=len(chosen), trials=_trial_records(cached.experiment, shown))


@router.get("/experiments/{name}/trials/{number}")
def trial(service: Shared, name: Name, number: int) -> schemas.TrialRecord:
    """One of its trials."""
    with service.experiments.open(name) as cached:
        found = cached.experiment.trials.get(number)
        if found is None:
            raise NotFoundError(f"{name} has no trial {number}")
        return _trial_records(cached.experiment, [found])[0]


def _trial_records(experiment: Experiment, trials: list[Trial]) -> list[schemas.TrialRecord]:
    estimates = clean_estimates(experiment, trials)
    return [
        schemas.TrialRecord.model_validate(trial).model_copy(update={"clean_estimate": estimate})
        for trial, estimate in zip(trials, estimates, strict=True)
    ]


@router.get("/experiments/{name}/curves")
def curves(service: Shared, name: Name, limit: Limit = 100, offset: Offset = 0) -> schemas.CurveList:
    """Validation accuracy by epoch, of each trial."""
    with service.experiments.open(name) as cached:
        experiment = cached.experiment
        shown = [experiment.trials[number] for number in sorted(experiment.trials)[offset : offset + limit]]
        return schemas.CurveList(
            total=len(experiment.trials),
            split="validation",
            labels=experiment.labels_kind,
            rungs=experiment.rungs,
            curves=[
                schemas.Curve(
                    trial=trial.number,
                    state=trial.state,
                    control=trial.control,
                    epochs=list(trial.curve),
                    val_accuracy=list(trial.curve.values()),
                )
                for trial in shown
            ],
        )


@router.get("/experiments/{name}/best")
def best(service: Shared, name: Name) -> schemas.BestAnswer:
    """The best trial so far."""
    with service.experiments.open(name) as cached:
        return schemas.BestAnswer.model_validate(search_overview(cached.experiment), from_attributes=True)


@router.get("/comparison")
def comparison(service: Shared, name: Names) -> ComparisonRecord:
    """Several searches side by side: what was set differently, what each found, and whether chance explains it."""
    with opened(service, name) as experiments:
        return compare(experiments).record()


@router.get("/experiments/{name}/report", response_class=Response, responses=MADE | media("text/html"))
async def report(service: Shared, name: Name) -> Response:
    """Its report as one HTML file."""
    return await artifact(service, "report", name)


@router.get("/experiments/{name}/export", response_class=Response, responses=MADE | ARCHIVE)
async def export(service: Shared, name: Name) -> Response:
    """The best configuration, its weights and provenance, as a tar archive."""
    return await artifact(service, "export", name)


@router.get("/experiments/{name}/events", response_class=Response, responses=EVENTS)
def events(service: Shared, name: Name) -> Response:
    """Its progress as server-sent events: the state now, and again whenever it has changed."""
    service.experiments.snapshot(name)  # refuses a search that does not exist
    return EventStream(service.broadcaster, name, lambda: progress_of(service, name))


@router.get("/events", response_class=Response, responses=EVENTS)
def all_events(service: Shared) -> Response:
    """The progress of all searches as server-sent events."""
    return EventStream(
        service.broadcaster, "*", lambda: progress_of_all(service.experiments.snapshots(), service.jobs.known())
    )


@router.get("/jobs")
def jobs(service: Shared) -> schemas.JobList:
    """The searches that were submitted, and their state on the cluster."""
    known = service.jobs.known()
    records = [schemas.JobRecord(name=job.name, state=job.state, message=job.message or None) for job in known.jobs]
    return schemas.JobList(jobs=records, trouble=known.error)


@router.get("/experiments/{name}/logs", response_class=Response, responses=media("text/plain"))
def logs(service: Shared, name: Name) -> PlainTextResponse:
    """The end of what the latest job of a search printed."""
    return PlainTextResponse(service.jobs.logs(name)[-MAX_LOG:])


@changes.post("/experiments", status_code=202, openapi_extra=json_body_of("Submission", ALLOWED))
def submit(service: Shared, principal: Authenticated, settings: JsonBody) -> schemas.Accepted:
    """Starts a search on the cluster; it belongs to the owner of the token."""
    job = service.jobs.submit(admit(settings, principal.owner, service.server))
    return schemas.Accepted(name=job.name, state=job.state)


@changes.post("/experiments/{name}/stop", status_code=202)
def stop(service: Shared, principal: Authenticated, name: Name) -> schemas.Accepted:
    """Interrupts a search cleanly; it can be resumed."""
    check_owner(service, principal, name)
    service.jobs.stop(name)
    return schemas.Accepted(name=name, state="stopping")


@changes.post("/experiments/{name}/resume", status_code=202, openapi_extra=json_body_of("Changes", RESUMABLE))
def resume(service: Shared, principal: Authenticated, name: Name, settings: JsonBody) -> schemas.Accepted:
    """Resumes a search, or extends a finished one."""
    check_owner(service, principal, name)
    with service.experiments.open(name) as cached:
        resumed, changes = admit_changes(cached.experiment, settings, service.server)
    job = service.jobs.resume(resumed, changes)
    return schemas.Accepted(name=job.name, state=job.state)


@changes.post("/experiments/{name}/confirm", status_code=202, openapi_extra=_confirmation_body())
def confirm(service: Shared, principal: Authenticated, name: Name, settings: JsonBody) -> schemas.Accepted:
    """Trains its best configurations and the controls on fresh seeds, then measures them on the test set."""
    check_owner(service, principal, name)
    with service.experiments.open(name) as cached:
        admitted = admit_confirmation(cached.experiment, settings, service.server)
    job = service.jobs.confirm(*admitted)
    return schemas.Accepted(name=job.name, state=job.state)


@changes.post("/experiments/{name}/clean")
def clean(service: Shared, principal: Authenticated, name: Name) -> DiskUsage:
    """Deletes checkpoints that neither a resume nor an export needs; returns what the search takes then."""
    check_owner(service, principal, name)
    remove_old_checkpoints(service.server.storage, name)
    [usage] = disk_usage(service.server.storage, [name])
    return usage


@changes.delete("/experiments/{name}", status_code=204, response_class=Response)
def delete(service: Shared, principal: Authenticated, name: Name) -> Response:
    """Deletes a search with all its files, which cannot be undone."""
    check_owner(service, principal, name)
    service.jobs.check_idle(name)
    remove_whole(service.server.storage, name)
    service.experiments.forget(name)
    return Response(status_code=204)


@contextmanager
def opened(service: Service, names: Sequence[str]) -> Iterator[list[Experiment]]:
    """Yields several searches in this order, none of which changes meanwhile."""
    with ExitStack() as stack:
        found = {name: stack.enter_context(service.experiments.open(name)).experiment for name in sorted(set(names))}
        yield [found[name] for name in dict.fromkeys(names)]


def progress_of(service: Service, name: str) -> str:
    """Returns what the stream of one search shows, as JSON."""
    progress = service.experiments.snapshot(name).status.model_dump(include=PROGRESS)
    if any(job.name == name and job.alive and job.action in KINDS for job in service.jobs.known().jobs):
        progress["made"] = [made.model_dump() for made in service.jobs.made(name)]
    return to_json(progress, inf_nan_mode="null").decode()


def progress_of_all(snapshots: list[Snapshot], known: KnownJobs) -> str:
    """Returns what the stream of all searches shows, as JSON."""
    progress = {snapshot.status.name: snapshot.status.model_dump(include=PROGRESS) for snapshot in snapshots}
    return to_json(
        {"experiments": progress, "jobs": {job.name: job.state for job in known.jobs}}, inf_nan_mode="null"
    ).decode()


async def artifact(service: Service, kind: Kind, name: str) -> Response:
    """Returns a file of an experiment, or 202 while it is being made."""
    path = await made_file(service, kind, name)
    if path is None:
        return being_made(kind)
    if kind == "verify":
        return FileResponse(path, media_type="text/html")
    if kind == "report":
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})
    return FileResponse(path, media_type="application/x-tar", filename=f"{name}.tar")


async def made_file(service: Service, kind: Kind, name: str) -> Path | None:
    """Returns a file that rests on all that is stored of an experiment now, or None while it is being made."""
    version = await asyncio.to_thread(service.experiments.version, name)
    if kind in ("verify", "labels"):  # which do not rest on answers
        version = version._replace(answers=())
    path = await service.artifacts.get(kind, name, version)
    if path is not None and not path.is_file():
        raise HTTPException(409, f"the {kind} was removed just now: ask again")
    return path


def being_made(kind: Kind) -> Response:
    """Returns the answer while a file is being made."""
    return JSONResponse({"detail": f"the {kind} is being made: ask again"}, 202, {"Retry-After": RETRY_SECONDS})


def _sort_key(trial: Trial, column: str) -> tuple[Any, ...]:
    """Orders numbers before text; empty for no value."""
    value = trial.config.get(column)
    if column in COLUMNS:
        value = trial.number if column == "trial" else getattr(trial, column)
    if value is None:
        return ()
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))
