"""Files that jobs of the cluster make of a search: how far they are, the files, and starting to make them."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse
from starlette.responses import RedirectResponse, Response

from tune_mentormix.results.made_files import FILES, MadeKind, made_folder
from tune_mentormix.service import schemas
from tune_mentormix.service.admission import CONFIRMATION_CHANGES, admit_making, form_settings
from tune_mentormix.service.api import CHANGING, READING, JsonBody, Name, json_body_of, media
from tune_mentormix.service.auth import Principal
from tune_mentormix.service.dependencies import (
    Authenticated,
    OwnForm,
    Service,
    Shared,
    authorize,
    check_owner,
    own_form,
    read_body,
    require_bearer,
)
from tune_mentormix.service.experiments import NotFoundError
from tune_mentormix.storage.paths import local_path

router = APIRouter(include_in_schema=False, dependencies=[Depends(authorize)])
forms = APIRouter(include_in_schema=False, dependencies=[Depends(authorize), Depends(own_form)])
reading = APIRouter(prefix="/api/v1", responses=READING, tags=["reading"], dependencies=[Depends(authorize)])
changes = APIRouter(
    prefix="/api/v1",
    responses=CHANGING,
    tags=["searching"],
    dependencies=[Depends(authorize), Depends(require_bearer), Depends(read_body)],
)
ROUTERS = (router, forms, reading, changes)
DOWNLOAD = media("application/octet-stream", format="binary")


@reading.get("/experiments/{name}/made")
def list_made(service: Shared, name: Name) -> schemas.MadeList:
    """What jobs of the cluster made of it, and how far they are."""
    service.experiments.snapshot(name)  # refuses a search that does not exist
    return schemas.MadeList(made=service.jobs.made(name))


@reading.get("/experiments/{name}/made/{kind}", response_class=Response, responses=DOWNLOAD)
@router.get("/searches/{name}/made/{kind}")
def download(service: Shared, name: Name, kind: MadeKind) -> Response:
    """A file that a job made of it, as it was finished last."""
    service.experiments.snapshot(name)
    file = FILES[kind][0]
    path = made_folder(service.server.storage, name) / file
    title = f"{name}-{file}"
    if here := local_path(path):
        if not here.is_file():
            raise NotFoundError(f"the {kind} of {name} was not made yet")
        return FileResponse(here, media_type="application/octet-stream", filename=title)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"the {kind} of {name} was not made yet") from error
    headers = {"Content-Disposition": f'attachment; filename="{title}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


@changes.post(
    "/experiments/{name}/made/{kind}", status_code=202, openapi_extra=json_body_of("Making", CONFIRMATION_CHANGES)
)
def make(
    service: Shared, principal: Authenticated, name: Name, kind: MadeKind, settings: JsonBody
) -> schemas.Accepted:
    """Has a job of the cluster train it on all images, find its suspicious labels, or choose images to verify."""
    return _make(service, principal, name, kind, settings)


@forms.post("/searches/{name}/made/{kind}")
def make_by_form(service: Shared, principal: Authenticated, name: Name, kind: MadeKind, form: OwnForm) -> Response:
    """The same, from its page."""
    _make(service, principal, name, kind, form_settings(form))
    return RedirectResponse(f"/searches/{name}?flash=making", 303)


def _make(
    service: Service, principal: Principal, name: str, kind: MadeKind, settings: dict[str, object]
) -> schemas.Accepted:
    check_owner(service, principal, name)
    with service.experiments.open(name) as cached:
        admitted = admit_making(cached.experiment, settings, service.server)
    job = service.jobs.make(kind, *admitted)
    return schemas.Accepted(name=job.name, state=job.state)
