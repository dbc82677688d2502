"""The pages and their forms. They work without scripts; one script keeps them fresh."""

from __future__ import annotations

from math import ceil, floor
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field, field_validator
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import templates_of
from tune_mentormix.results.clean_terms import clean_estimates
from tune_mentormix.results.comparison import compare, result_rows, setting_rows, verdict
from tune_mentormix.results.made_files import MadeKind
from tune_mentormix.results.summary import summarize
from tune_mentormix.service import api
from tune_mentormix.service.admission import confirm_form, form_settings, resume_form, submit_form
from tune_mentormix.service.api import COLUMNS, Name, TrialQuery, progress_of, progress_of_all
from tune_mentormix.service.artifacts import Kind
from tune_mentormix.service.auth import COOKIE, Principal
from tune_mentormix.service.dependencies import (
    Authenticated,
    Form,
    OwnForm,
    Service,
    Shared,
    authorize,
    own_form,
    session_of,
)
from tune_mentormix.service.error_handlers import status_of
from tune_mentormix.service.request_logging import log
from tune_mentormix.storage.yaml_files import dump_yaml

public = APIRouter(include_in_schema=False)  # without a token
router = APIRouter(include_in_schema=False, dependencies=[Depends(authorize)])
signed_in = APIRouter(include_in_schema=False, dependencies=[Depends(own_form)])  # with either role
forms = APIRouter(include_in_schema=False, dependencies=[Depends(authorize), Depends(own_form)])
ROUTERS = (public, router, signed_in, forms)
ROWS = 100  # of a table
MAX_FAILURES = 20
MAX_POINTS = 9_000  # of the curves in a picture, about eight bytes each
TICK_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)  # of accuracies
FLASH_MESSAGES = {
    "submitted": "The search was sent to the cluster: it appears here once its driver has started.",
    "stopping": "The search was asked to stop. It ends cleanly, which can take half a minute.",
    "confirming": "The confirmation was sent to the cluster: its progress appears here once its driver has started.",
    "making": "The work was sent to the cluster: its progress appears here once it has started.",
    "deleted": "The search was deleted.",
    "cleaned": "Checkpoints that nothing needs were deleted.",
    "resumed": "The search was sent to the cluster again, and resumes where it was.",
}
MADE_TITLES: dict[MadeKind, str] = {
    "refit": "Weights trained on all images (tar)",
    "labels": "Suspicious labels (HTML)",
    "verify": "Page to verify labels (HTML)",
}
PageNumber = Annotated[int, Field(ge=1, le=1_000_000)]
_environment = templates_of("tune_mentormix.service")


class SearchPageQuery(TrialQuery):
    """The query of a search's page: which trials, which page of them, and a message."""

    page: PageNumber = 1
    flash: str = ""

    @field_validator("state", "at_least", mode="before")
    @classmethod
    def _empty_is_none(cls, value: str) -> str | None:
        return value or None  # a field of the form that was left empty


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Returns a page for the user who asks."""
    session = session_of(request)
    may_run = session is not None and session.principal.may_run
    text = _environment.get_template(template).render(session=session, may_run=may_run, **values)
    return HTMLResponse(text, status)


def error_response(request: Request, error: StarletteHTTPException) -> Response:
    """Returns a page for a browser (the one to sign in, if it must), JSON for a program."""
    if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith("/api/"):
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
    if error.status_code == 401:
        service: Service = request.app.state.service
        if principal := service.signed_in_by_proxy(request):
            return _sign_in_by_proxy(request, service, principal)
        response = render(request, "login.html", 401, message=None)
    else:
        response = render(request, "error.html", error.status_code, error=error)
    response.headers.update(error.headers or {})
    return response


def _sign_in_by_proxy(request: Request, service: Service, principal: Principal) -> Response:
    """Begins a session of whom the proxy has signed in, and has the browser ask again for what it wanted.

    A page does that, no redirect: after redirects from another site, a browser would not send the cookie yet.
    """
    log("signed in by the proxy", who=principal.owner)
    path = request.url.path.lstrip("/\\") if request.method == "GET" and request.url.path != "/login" else ""
    wanted = f"/{path}?{request.url.query}" if request.url.query else f"/{path}"  # never another host
    response = render(request, "signed_in.html", owner=principal.owner, wanted=wanted)
    service.begin_session(response, principal, by_proxy=True)
    return response


@public.get("/login")
def login_page(request: Request, service: Shared) -> Response:
    """The form to sign in, unless the proxy in front has done that."""
    if principal := service.signed_in_by_proxy(request):
        return _sign_in_by_proxy(request, service, principal)
    return render(request, "login.html", message=None)


@public.post("/login")
async def login(request: Request, service: Shared, form: Form) -> Response:
    """Begins a session. Failures from one address are counted, so that guessing is slow."""
    client = request.client.host if request.client else ""
    principal = service.tokens.principal(form.get("token", "").strip())
    wait = service.failed_logins.retry_after(client, principal)
    if wait is not None:
        message = f"Too many attempts from your address: wait {wait} s."
        response: Response = render(request, "login.html", 429, message=message)
        response.headers["Retry-After"] = str(wait)
        return response
    if principal is None:
        service.failed_logins.failed(client)
        unheard = "x-forwarded-for" in request.headers and not service.server.trusted_proxies
        log("a login failed" + ("; if a proxy sent it, set trusted_proxies" if unheard else ""), client=client)
        return render(request, "login.html", 401, message="That token is not valid.")
    service.failed_logins.succeeded(client, principal)
    response = RedirectResponse("/", 303)
    service.begin_session(response, principal)
    log("signed in", who=principal.owner, client=client)
    return response


@signed_in.post("/logout")
async def logout(request: Request, service: Shared) -> Response:
    """Ends the session, and that at the proxy in front if it began there."""
    session = service.sessions.pop(request.cookies[COOKIE], None)
    at_proxy = service.server.sign_out_path if session and session.by_proxy else None
    response = RedirectResponse(at_proxy or "/login", 303)
    response.delete_cookie(COOKIE)
    return response


@router.get("/")
def searches(
    request: Request, service: Shared, owner: api.Owner = "", flash: str = "", page: PageNumber = 1
) -> Response:
    """All searches, or those of an owner."""
    everything = service.experiments.snapshots()
    snapshots = [snapshot for snapshot in everything if owner in ("", snapshot.status.owner)]
    known = service.jobs.known()
    names = {snapshot.status.name for snapshot in everything}
    return render(
        request,
        "searches.html",
        searches=[snapshot.status for snapshot in snapshots[(page - 1) * ROWS : page * ROWS]],
        pages=(page, len(snapshots), ROWS),
        owner=owner,
        owners=sorted({snapshot.status.owner for snapshot in everything if snapshot.status.owner}),
        waiting=[job for job in known.jobs if job.name not in names and owner in ("", job.owner)],
        failed_jobs={job.name: job.message for job in known.jobs if job.state == "failed"},
        error=known.error,
        storage=str(service.server.storage),
        now=progress_of_all(everything, known),
        flash=FLASH_MESSAGES.get(flash),
    )


@router.get("/searches/{name}")
def search(
    request: Request,
    service: Shared,
    principal: Authenticated,
    name: Name,
    query: Annotated[SearchPageQuery, Query()],
) -> Response:
    """One search."""
    job = next((job for job in service.jobs.known().jobs if job.name == name), None)
    now = progress_of(service, name)  # before: the page is at least as new
    with service.experiments.open(name) as cached:
        experiment = cached.experiment
        trials = query.select(experiment)
        shown = trials[(query.page - 1) * ROWS : query.page * ROWS]
        failed = [trial for trial in experiment.trials.values() if trial.state == "failed"]
        return render(
            request,
            "search.html",
            experiment=experiment,
            may_change=principal.may_change(experiment.settings.owner),
            snapshot=cached.snapshot,
            finding=summarize(experiment),
            job=job,
            wait=experiment.waiting(),
            made=service.jobs.made(name),
            made_titles=MADE_TITLES,
            cluster=service.server.address,
            now=now,
            flash=FLASH_MESSAGES.get(query.flash),
            curves=_curves(experiment),
            columns=(*COLUMNS[:4], *experiment.hyperparameters, COLUMNS[4]),
            trials=list(zip(shown, clean_estimates(experiment, shown), strict=True)),
            query=query,
            pages=(query.page, len(trials), ROWS),
            filters=query.model_dump(include=set(TrialQuery.model_fields), exclude_defaults=True),
            failed=failed[:MAX_FAILURES],
            failed_count=len(failed),
            settings=dump_yaml(experiment.settings_record()),
            resume_fields=resume_form(service.server),
            confirm_fields=confirm_form(service.server),
        )


router.get("/searches/{name}/logs")(api.logs)


@router.get("/searches/{name}/report")
async def report(request: Request, service: Shared, name: Name) -> Response:
    """Its report, or a page that asks again until it is made."""
    return await artifact_page(request, service, "report", name)


@router.get("/searches/{name}/export")
async def export(request: Request, service: Shared, name: Name) -> Response:
    """Its export, or a page that asks again until it is made."""
    return await artifact_page(request, service, "export", name)


@router.get("/submit")
def submit_page(request: Request, service: Shared) -> Response:
    """The form for a new search."""
    return _submit_page(request, service, {}, None, 200)


@forms.post("/submit")
def submit(request: Request, service: Shared, principal: Authenticated, form: OwnForm) -> Response:
    """Sends the search; an error is shown above the form, which keeps what was entered."""
    try:
        api.submit(service, principal, form_settings(form))
    except RequestError as error:
        return _submit_page(request, service, form, str(error), status_of(error))
    return RedirectResponse("/?flash=submitted", 303)


@forms.post("/searches/{name}/stop")
def stop(service: Shared, principal: Authenticated, name: Name) -> Response:
    """Interrupts the search."""
    api.stop(service, principal, name)
    return RedirectResponse(f"/searches/{name}?flash=stopping", 303)


@forms.post("/searches/{name}/resume")
def resume(service: Shared, principal: Authenticated, name: Name, form: OwnForm) -> Response:
    """Resumes the search."""
    api.resume(service, principal, name, form_settings(form))
    return RedirectResponse(f"/searches/{name}?flash=resumed", 303)


@forms.post("/searches/{name}/confirm")
def confirm(service: Shared, principal: Authenticated, name: Name, form: OwnForm) -> Response:
    """Confirms the search."""
    api.confirm(service, principal, name, form_settings(form))
    return RedirectResponse(f"/searches/{name}?flash=confirming", 303)


@forms.post("/searches/{name}/clean")
def clean(service: Shared, principal: Authenticated, name: Name) -> Response:
    """Deletes checkpoints of the search that are no longer needed."""
    api.clean(service, principal, name)
    return RedirectResponse(f"/searches/{name}?flash=cleaned", 303)


@forms.post("/searches/{name}/delete")
def delete(service: Shared, principal: Authenticated, name: Name, form: OwnForm) -> Response:
    """Deletes the search, if its name was typed again."""
    if form.get("name", "").strip() != name:
        raise RequestError(f"to delete {name}, type its name: nothing was deleted")
    api.delete(service, principal, name)
    return RedirectResponse("/?flash=deleted", 303)


@router.get("/compare")
def compare_page(request: Request, service: Shared, name: api.Names) -> Response:
    """Several searches side by side."""
    with api.opened(service, name) as experiments:
        comparison = compare(experiments)
        return render(
            request,
            "compare.html",
            names=[experiment.name for experiment in experiments],
            headline=" ".join(map(str, comparison.leads())) or verdict(comparison),
            verdict=verdict(comparison),
            results=result_rows(comparison),
            settings=setting_rows(comparison),
        )


@router.get("/favicon.ico")
def favicon() -> Response:
    """The icon, at the path that browsers ask for."""
    return RedirectResponse("/assets/icon.svg", 308)


async def artifact_page(request: Request, service: Service, kind: Kind, name: str) -> Response:
    """Returns a file of an experiment, or a page that reloads while it is being made."""
    response = await api.artifact(service, kind, name)
    return waiting_page(request, kind, name) if response.status_code == 202 else response


def waiting_page(request: Request, kind: Kind, name: str) -> Response:
    """Returns a page that asks again until a file is made."""
    title = kind if kind in ("report", "export") else "page"
    response = render(request, "waiting.html", 202, name=name, title=title)
    response.headers["Refresh"] = "3"
    return response


def _submit_page(
    request: Request, service: Service, entered: dict[str, str], message: str | None, status: int
) -> Response:
    groups, server = submit_form(service.server), service.server
    return render(request, "submit.html", status, groups=groups, entered=entered, message=message, server=server)


def _curves(experiment: Experiment) -> dict[str, Any] | None:
    """Returns a picture of all learning curves in a square of 1,000 by 1,000 units; None before the first report."""
    curves = {
        number: [(epoch, value) for epoch, value in trial.curve.items() if value is not None and 0 <= value <= 1]
        for number, trial in sorted(experiment.trials.items())
    }
    values = [value for points in curves.values() for _, value in points]
    if not values:
        return None
    step = next(step for step in TICK_STEPS if max(values) - min(values) <= 5 * step)
    low = floor(min(values) / step + 1e-9) * step
    high = max(ceil(max(values) / step - 1e-9) * step, low + step)
    epochs = max(1, *(int(trial.config.get("epochs") or trial.epoch) for trial in experiment.trials.values()))

    best = experiment.best()

    def x(epoch: float) -> int:
        return round(1_000 * epoch / epochs)

    def y(value: float) -> int:
        return round(1_000 * (high - value) / (high - low))

    def path(points: list[tuple[int, float]], every: int = 1) -> str:
        shown = [*points[:-1:every], *points[-1:]]
        return "M" + "L".join(f"{x(epoch)} {y(value)}" for epoch, value in shown) + "h0" if points else ""

    every = ceil(len(values) / MAX_POINTS)
    controls = {trial.number: trial.control for trial in experiment.trials.values() if trial.control}
    marked = controls.keys() | ({best.number} if best else set())
    ticks = [low + step * tick for tick in range(round((high - low) / step) + 1)]
    return {
        "count": sum(bool(points) for points in curves.values()),
        "others": "".join(path(points, every) for number, points in curves.items() if number not in marked),
        "controls": {name: path(curves[number]) for number, name in controls.items()},
        "best": path(curves[best.number]) if best else "",
        "rungs": [x(rung) for rung in experiment.rungs if rung <= epochs],
        "accuracies": {f"{tick:.4g}": y(tick) for tick in ticks},
        "epochs": {round(epochs * part / 4): x(round(epochs * part / 4)) for part in range(5)},
    }
