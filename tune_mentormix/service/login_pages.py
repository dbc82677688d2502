"""Signing in with a token, and out."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from tune_mentormix.service.guard import session_cookie
from tune_mentormix.service.logs import log
from tune_mentormix.service.rendering import page
from tune_mentormix.service.sessions import COOKIE
from tune_mentormix.service.state import Shared, form_of

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login_page(request: Request) -> Response:
    """The form."""
    return page(request, "login.html", message=None)


@router.post("/login")
def login(request: Request, service: Shared) -> Response:
    """Begins a session. Failures from one address are counted, so that guessing is slow."""
    client = request.client.host if request.client else ""
    if service.failed_logins.is_spent(client):
        return page(request, "login.html", 429, message="Too many attempts from your address: wait a minute.")
    principal = service.tokens.principal(form_of(request).get("token", "").strip())
    if principal is None:
        service.failed_logins.allows(client)
        log("a login failed", client=client)
        return page(request, "login.html", 401, message="That token is not valid.")
    response = RedirectResponse("/", 303)
    response.set_cookie(
        COOKIE,
        service.sessions.begin(principal),
        max_age=round(service.server.session_time),
        httponly=True,
        secure=service.server.https,
        samesite="strict",
    )
    log("signed in", who=principal.owner, client=client)
    return response


@router.post("/logout")
def logout(request: Request, service: Shared) -> Response:
    """Ends the session."""
    service.sessions.end(session_cookie(request.headers))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE)
    return response
