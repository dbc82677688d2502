"""Dependencies of routes: the parts of the service, who asks, and what was sent. Routers name the guards among them.

Nothing is read from a request before its sender is known, a change takes the role `run` or `admin`, and a browser's
session changes things only through our own forms, each with its CSRF token.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from dataclasses import dataclass
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from tune_mentormix.service.answer_logs import AnswerLogs
from tune_mentormix.service.artifacts import Artifacts
from tune_mentormix.service.auth import COOKIE, FailedLogins, Principal, RateLimiter, Session, Sessions, Tokens
from tune_mentormix.service.experiments import ExperimentCache, NotFoundError
from tune_mentormix.service.jobs import JobQueue
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.service.single_sign_on import SingleSignOn
from tune_mentormix.service.sse import Broadcaster

MAX_FIELDS = 200  # of a form
READ_ONLY = "this token may read only: use one with the role run"
BODY_SECONDS = 30.0  # for a whole body to arrive
SAFE_METHODS = ("GET", "HEAD")
bearer = HTTPBearer(auto_error=False, scheme_name="token")


@dataclass(frozen=True)
class Service:
    """The parts of one running service."""

    server: ServerSettings
    tokens: Tokens
    experiments: ExperimentCache
    jobs: JobQueue
    sessions: Sessions
    broadcaster: Broadcaster
    artifacts: Artifacts
    answers: AnswerLogs
    requests: RateLimiter
    failed_logins: FailedLogins
    single_sign_on: SingleSignOn | None = None

    def session(self, request: Request) -> Session | None:
        """Returns the session of the browser that sent a request, unless the proxy no longer stands for it."""
        session = self.sessions.get(request.cookies.get(COOKIE, ""))
        if session and session.by_proxy and session.principal != self.signed_in_by_proxy(request):
            return None
        return session

    def signed_in_by_proxy(self, request: Request) -> Principal | None:
        """Returns whom the proxy in front has signed in, if single sign-on is set up and it did."""
        return self.single_sign_on.principal(request.headers) if self.single_sign_on else None

    def begin_session(self, response: Response, principal: Principal, by_proxy: bool = False) -> None:
        """Signs a browser in with the cookie of a response."""
        response.set_cookie(
            COOKIE,
            self.sessions.begin(principal, by_proxy),
            max_age=round(self.server.session_time),
            httponly=True,
            secure=self.server.https,
            samesite="strict",
        )


async def get_service(request: Request) -> Service:
    """Returns the service that a request reached."""
    return cast(Service, request.app.state.service)


Shared = Annotated[Service, Depends(get_service)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


async def authenticate(request: Request, service: Shared, credentials: Credentials) -> Principal:
    """Returns who asks, by bearer token or session cookie.

    Raises HTTPException 401 without a valid token, 429 with one that asks too often.
    """
    session = None if "authorization" in request.headers else service.session(request)
    principal = session.principal if session else None
    if credentials:
        principal = service.tokens.principal(credentials.credentials.strip())
    if principal is None:
        raise HTTPException(
            401,
            "a valid token is needed: sign in, or send Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )
    request.state.principal, request.state.session = principal, session
    token = f"{principal.role} {principal.owner}"  # one person may have a token of each role
    if not service.requests.hit(token):
        wait = str(service.requests.retry_after(token))
        raise HTTPException(429, f"too many requests with this token: try again in {wait} s", {"Retry-After": wait})
    return principal


Authenticated = Annotated[Principal, Depends(authenticate)]


async def authorize(request: Request, principal: Authenticated) -> None:
    """Raises HTTPException as `authenticate` does, and 403 for a change with a token that may read only."""
    if request.method not in SAFE_METHODS and not principal.may_run:
        raise HTTPException(403, READ_ONLY)


async def require_bearer(request: Request, _: Authenticated) -> None:
    """Raises HTTPException 403 for a browser's session: another site could use it."""
    if session_of(request):
        raise HTTPException(403, "changes through the API take a token: send Authorization: Bearer TOKEN")


def check_owner(service: Service, principal: Principal, name: str) -> None:
    """Raises HTTPException 403 if a search is another owner's and its sender no admin; else as a look at it does."""
    try:
        owner = service.experiments.snapshot(name).status.owner
    except NotFoundError:
        owner = service.jobs.owner(name)  # its driver has not started
    if not principal.may_change(owner):
        whose = f"belongs to {owner}" if owner else "has no owner on record"
        needed = f"the token of {owner}, or one" if owner else "a token"
        raise HTTPException(403, f"{name} {whose}: this takes {needed} with the role admin")


def session_of(request: Request) -> Session | None:
    """Returns the session of the browser that asks; None for a program, and before it signed in."""
    return cast("Session | None", getattr(request.state, "session", None))


async def read_body(request: Request, service: Shared) -> bytes:
    """Returns the body, never more than the limit.

    Raises HTTPException 403 if another site sent it, 400, 408 or 413 if it was cut off, too slow or too large.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        # The login form has no session to hold a token.
        raise HTTPException(403, "another site sent this form: send it from a page of this service")
    limit, body = service.server.max_body, bytearray()
    too_large = HTTPException(413, f"a request has at most {limit} bytes", {"Connection": "close"})
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limit:
        raise too_large
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise too_large
    except ClientDisconnect:
        raise HTTPException(400, "the request was cut off: send it again") from None
    except TimeoutError:
        raise HTTPException(
            408, f"the request took more than {BODY_SECONDS:g} s to arrive: send it again", {"Connection": "close"}
        ) from None
    return bytes(body)


Body = Annotated[bytes, Depends(read_body)]


async def json_body(request: Request, body: Body) -> dict[str, Any]:
    """Returns the settings that a program sent. Raises HTTPException 422 if they are no JSON object."""
    is_json = request.headers.get("content-type", "").lower().startswith("application/json")
    try:
        value = json.loads(body) if is_json else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise HTTPException(422, "the body must be a JSON object, with Content-Type: application/json")
    return value


async def read_form(body: Body) -> dict[str, str]:
    """Returns the fields of a form. Raises HTTPException 422 if it cannot be read."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise HTTPException(
            422, f"the form cannot be read: it must be UTF-8, with at most {MAX_FIELDS} fields"
        ) from None


Form = Annotated[dict[str, str], Depends(read_form)]


async def own_form(request: Request, _: Authenticated, form: Form) -> dict[str, str]:
    """Returns the fields of a form that this session was given. Raises HTTPException 403 for any other."""
    session = session_of(request)
    if session is None:
        raise HTTPException(403, "forms take a session: use the API with a token")
    if not hmac.compare_digest(session.csrf.encode(), form.pop("csrf", "").encode("utf-8", "replace")):
        raise HTTPException(403, "the form is not one of this session: open the page again")
    return form


OwnForm = Annotated[dict[str, str], Depends(own_form)]
