"""Templates into pages, and refusals into what suits the asker: a page for a browser, JSON for a program."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from tune_mentormix.report.html import templates_of
from tune_mentormix.service.guard import RefusedError
from tune_mentormix.service.state import session_of

_environment = templates_of("tune_mentormix.service")


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page for whoever asks."""
    session = session_of(request)
    may_run = session is not None and session.principal.role == "run"
    text = _environment.get_template(template).render(session=session, may_run=may_run, **values)
    return HTMLResponse(text, status)


def answer(scope: Scope, refused: RefusedError) -> Response:
    """A refusal; a browser without a session gets the page to sign in."""
    wants_page = "text/html" in Headers(scope=scope).get("accept", "") and not scope["path"].startswith("/api/")
    if not wants_page:
        return JSONResponse({"detail": refused.detail}, refused.status, refused.headers)
    session = scope.get("state", {}).get("session")
    if refused.status == 401:
        text = _environment.get_template("login.html").render(session=None, message=None)
    else:
        text = _environment.get_template("refused.html").render(session=session, refused=refused)
    return HTMLResponse(text, refused.status, refused.headers)
