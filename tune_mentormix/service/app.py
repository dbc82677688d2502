"""Puts the service together: its parts, its routes, and what stands around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib import resources

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.responses import Response
from starlette.types import ASGIApp

import tune_mentormix
from tune_mentormix.service import (
    change_pages,
    dashboard,
    experiments_api,
    jobs_api,
    login_pages,
    metrics,
    pages,
)
from tune_mentormix.service.artifacts import Artifacts
from tune_mentormix.service.cluster_jobs import Jobs
from tune_mentormix.service.configuration import ServerSettings
from tune_mentormix.service.events import Streams
from tune_mentormix.service.failures import answer_failures
from tune_mentormix.service.guard import Guard
from tune_mentormix.service.jobs_view import JobsView
from tune_mentormix.service.library import Library
from tune_mentormix.service.observer import log_event, look, observe
from tune_mentormix.service.rates import Rates
from tune_mentormix.service.rendering import answer
from tune_mentormix.service.request_log import RequestLog
from tune_mentormix.service.sessions import Sessions
from tune_mentormix.service.shared_jobs import SharedJobs
from tune_mentormix.service.state import Service
from tune_mentormix.service.tokens import Tokens

WARM_SECONDS = 20.0  # at most, before the service answers
PAGES = (login_pages, pages, change_pages, dashboard, metrics)
ASSETS = {
    "style.css": ("tune_mentormix.report", "templates", "text/css"),  # the report's own look
    "service.css": ("tune_mentormix.service", "assets", "text/css"),
    "live.js": ("tune_mentormix.service", "assets", "text/javascript"),
    "icon.svg": ("tune_mentormix.service", "assets", "image/svg+xml"),
}


def make_app(server: ServerSettings, tokens: Tokens, jobs: Jobs) -> ASGIApp:
    """The service as an ASGI application.

    Args:
        server: its configuration.
        tokens: who may.
        jobs: the cluster.
    """
    library = Library(server.storage, log_event)
    known_jobs = JobsView(jobs, library)
    service = Service(
        server=server,
        tokens=tokens,
        library=library,
        jobs=SharedJobs(jobs, known_jobs, server.max_jobs),
        known_jobs=known_jobs,
        sessions=Sessions(server.session_time),
        streams=Streams(server.max_streams),
        artifacts=Artifacts(server.storage),
        failed_logins=Rates(server.logins_per_minute / 60, server.logins_per_minute),
    )
    app = FastAPI(
        title="tune-mentormix",
        version=tune_mentormix.__version__,
        lifespan=_lifespan(service),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for part in (experiments_api, jobs_api, *PAGES):
        app.include_router(part.router)
    _add_own_routes(app)
    answer_failures(app, answer)
    guarded = Guard(app, server, tokens, service.sessions, answer)
    return RequestLog(guarded, server.https)


def openapi(app: FastAPI) -> dict[str, object]:
    """The API's document: every path in it takes a bearer token."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        scheme = {"type": "http", "scheme": "bearer"}
        document.setdefault("components", {})["securitySchemes"] = {"token": scheme}
        document["security"] = [{"token": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        first_look = asyncio.create_task(look(service.library))
        await asyncio.wait([first_look], timeout=WARM_SECONDS)  # so that the first page is as quick as any
        observer = asyncio.create_task(observe(service.library))
        yield
        observer.cancel()
        with suppress(asyncio.CancelledError):
            await observer
        service.streams.close()
        service.artifacts.close()

    return lifespan


def _add_own_routes(app: FastAPI) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> PlainTextResponse:
        """Says that the server answers, and nothing else: it takes no token."""
        return PlainTextResponse("ok\n")

    @app.get("/api/v1/openapi.json", include_in_schema=False)
    def document() -> JSONResponse:
        """The OpenAPI document."""
        return JSONResponse(openapi(app))

    @app.get("/assets/{file}", include_in_schema=False)
    def asset(file: str) -> Response:
        """Styles and the script."""
        if file not in ASSETS:
            return PlainTextResponse("there is no such file\n", 404)
        package, folder, kind = ASSETS[file]
        content = (resources.files(package) / folder / file).read_bytes()
        return Response(content, media_type=kind, headers={"Cache-Control": "max-age=3600"})
