"""Puts the service together: its parts, its routes, and what stands around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import resources

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.responses import Response

from tune_mentormix import __version__
from tune_mentormix.cluster.jobs import ClusterJobs
from tune_mentormix.results.notifications import Notifier
from tune_mentormix.service import api, labels, made, metrics, pages, verification
from tune_mentormix.service.answer_logs import AnswerLogs
from tune_mentormix.service.artifacts import Artifacts
from tune_mentormix.service.auth import FailedLogins, RateLimiter, Sessions, Tokens
from tune_mentormix.service.dependencies import Service
from tune_mentormix.service.error_handlers import add_error_handlers
from tune_mentormix.service.experiments import ExperimentCache, log_event, poll, refresh_all
from tune_mentormix.service.jobs import JobQueue
from tune_mentormix.service.newsroom import Newsroom
from tune_mentormix.service.request_logging import RequestLog
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.service.single_sign_on import SingleSignOn
from tune_mentormix.service.sse import Broadcaster

WARM_SECONDS = 20.0  # at most, before the service answers
ASSETS = {
    "style.css": ("tune_mentormix.report", "templates", "text/css"),  # the report's style
    "service.css": ("tune_mentormix.service", "assets", "text/css"),
    "uplot.css": ("tune_mentormix.service", "assets", "text/css"),
    "uplot.js": ("tune_mentormix.service", "assets", "text/javascript"),
    "curves.js": ("tune_mentormix.service", "assets", "text/javascript"),
    "live.js": ("tune_mentormix.service", "assets", "text/javascript"),
    "icon.svg": ("tune_mentormix.service", "assets", "image/svg+xml"),
}
public = APIRouter(include_in_schema=False)  # without a token, as is `pages.public`


def make_app(
    server: ServerSettings,
    tokens: Tokens,
    cluster: ClusterJobs | None,
    notifier: Notifier | None = None,
    single_sign_on: SingleSignOn | None = None,
) -> RequestLog:
    """Makes the service as an ASGI application; without a cluster, nothing can be started or stopped."""
    experiments = ExperimentCache(server.storage, log_event)
    service = Service(
        server=server,
        tokens=tokens,
        experiments=experiments,
        jobs=JobQueue(cluster, experiments, server),
        sessions=Sessions(server.session_time),
        broadcaster=Broadcaster(server.max_streams),
        artifacts=Artifacts(server.storage),
        answers=AnswerLogs(),
        requests=RateLimiter(server.requests_per_second, server.burst),
        failed_logins=FailedLogins(server.logins_per_minute, server.session_time),
        single_sign_on=single_sign_on,
    )
    app = FastAPI(
        title="tune-mentormix",
        version=__version__,
        lifespan=_lifespan,
        openapi_url=None,  # nor the pages that need it
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.newsroom = Newsroom(experiments, notifier) if notifier else None
    own_pages = (public, *pages.ROUTERS, *verification.ROUTERS, *labels.ROUTERS, *made.ROUTERS)
    for router in (*own_pages, api.router, api.changes, metrics.router):
        app.include_router(router)
    add_error_handlers(app, pages.error_response)
    return RequestLog(app, server.https)


@public.get("/healthz")
async def healthz() -> PlainTextResponse:
    """Tells that the server answers, and nothing else."""
    return PlainTextResponse("ok\n")


@public.get("/assets/{file}")
def asset(file: str) -> Response:
    """Styles and the script."""
    if file not in ASSETS:
        return PlainTextResponse("there is no such file\n", 404)
    package, folder, kind = ASSETS[file]
    content = (resources.files(package) / folder / file).read_bytes()
    return Response(content, media_type=kind, headers={"Cache-Control": "max-age=3600"})


@api.router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> JSONResponse:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    newsroom: Newsroom | None = app.state.newsroom
    refresh = newsroom.look if newsroom else service.experiments.snapshots
    first = asyncio.create_task(refresh_all(refresh))
    await asyncio.wait([first], timeout=WARM_SECONDS)  # so that the first page is as quick as any
    poller = asyncio.create_task(poll(refresh))
    yield
    poller.cancel()
    with suppress(asyncio.CancelledError):
        await poller
    service.artifacts.close()
    service.answers.close()
    if newsroom:
        newsroom.close()
