"""optuna-dashboard on studies rebuilt from journals: read-only, since the guard lets nothing but GET through.

Its pages know absolute paths only (`/dashboard`, `/api/studies`, `/static`), so it stands at the root beside ours.
A study is rebuilt when its link is followed. It is imported then: it brings Optuna, pandas and scikit-learn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from tune_mentormix.errors import RequestError, how_to_install
from tune_mentormix.service.library import NotFoundError
from tune_mentormix.service.models import Name
from tune_mentormix.service.state import Shared

if TYPE_CHECKING:
    from tune_mentormix.service.optuna_studies import OptunaStudies

router = APIRouter(include_in_schema=False)
_studies: OptunaStudies | None = None
_lock = threading.Lock()


def has_dashboard() -> bool:
    """Whether the package is installed."""
    return find_spec("optuna_dashboard") is not None


@router.get("/searches/{name}/dashboard")
def open_dashboard(service: Shared, name: Name) -> Response:
    """Rebuilds the study, and shows it."""
    with service.library.open(name) as reading:
        number = _the_studies().rebuild(reading.experiment, reading.read_version)
    return RedirectResponse(f"/dashboard/studies/{number}", 303)


@router.get("/dashboard")
@router.get("/dashboard/{path:path}")
@router.get("/api/meta")
@router.get("/api/studies")
@router.get("/api/studies/{path:path}")
@router.get("/static/{path:path}")
@router.get("/img/{path:path}")
def dashboard(request: Request) -> Response:
    """Whatever the dashboard answers."""
    if _studies is None:
        raise NotFoundError("no study was opened yet: follow the link of a search")
    return _call(_studies.wsgi, request)


def _the_studies() -> OptunaStudies:
    global _studies
    with _lock:
        if _studies is None:
            if not has_dashboard():
                raise RequestError(f"optuna-dashboard is not installed: {how_to_install('serve')}")
            from tune_mentormix.service.optuna_studies import OptunaStudies

            _studies = OptunaStudies()
        return _studies


def _call(application: Callable[..., Iterable[bytes]], request: Request) -> Response:
    """One GET of a WSGI application; it needs no body, and its answers fit into memory."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        started.append((status, headers))
        return lambda data: None

    environment = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": request.url.path.encode().decode("latin-1"),
        "QUERY_STRING": request.url.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_ACCEPT_ENCODING": request.headers.get("accept-encoding", ""),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": BytesIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    body = application(environment, start_response)
    try:
        content = b"".join(body)
    finally:
        close = getattr(body, "close", None)
        if close:
            close()
    status, headers = started[-1]
    response = Response(content, int(status.split()[0]))
    for name, value in headers:
        if name.lower() not in ("content-length", "connection"):
            response.headers[name] = value
    return response
