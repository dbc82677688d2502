"""The forms: submitting, stopping and going on with a search. The guard checked session, role and CSRF token."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from tune_mentormix.errors import RequestError
from tune_mentormix.service.failures import status_of
from tune_mentormix.service.form_fields import settings_of, submit_form
from tune_mentormix.service.jobs_api import resume_search, submit_search
from tune_mentormix.service.models import Name
from tune_mentormix.service.rendering import page
from tune_mentormix.service.state import Service, Shared, form_of

router = APIRouter(include_in_schema=False)


@router.get("/submit")
def submit_page(request: Request, service: Shared) -> Response:
    """The form for a new search."""
    return _form(request, service, {}, None, 200)


@router.post("/submit")
def submit(request: Request, service: Shared) -> Response:
    """Sends the search; what is wrong is said above the form, which keeps what was entered."""
    form = form_of(request)
    try:
        submit_search(service, settings_of(form))
    except RequestError as error:
        return _form(request, service, form, str(error), status_of(error))
    return RedirectResponse("/?said=submitted", 303)


@router.post("/searches/{name}/stop")
def stop(service: Shared, name: Name) -> Response:
    """Interrupts the search."""
    service.jobs.stop(name)
    return RedirectResponse(f"/searches/{name}?said=stopping", 303)


@router.post("/searches/{name}/resume")
def resume(request: Request, service: Shared, name: Name) -> Response:
    """Goes on with the search."""
    resume_search(service, name, settings_of(form_of(request)))
    return RedirectResponse(f"/searches/{name}?said=resumed", 303)


def _form(request: Request, service: Service, entered: dict[str, str], message: str | None, status: int) -> Response:
    groups = submit_form(service.server)
    return page(
        request, "submit.html", status, groups=groups, entered=entered, message=message, server=service.server
    )
