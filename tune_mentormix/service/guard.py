"""What every request passes before any route sees it: who asks, how often, how much, and whether it may change it.

Nothing is reachable by default: a route that is forgotten here asks for a token like all others, and whatever is no
GET takes the role `run`. A browser's session changes things only through our own forms, each with its CSRF token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tune_mentormix.service.configuration import ServerSettings
from tune_mentormix.service.rates import Rates
from tune_mentormix.service.sessions import COOKIE, Session, Sessions, is_own_form
from tune_mentormix.service.tokens import Principal, Tokens

OPEN = ("/healthz", "/login")  # and /assets/: they say nothing about any search
READ_ONLY = ("/dashboard", "/api/meta", "/api/studies", "/static", "/img")  # optuna-dashboard's
MOST_FIELDS = 200  # of a form
BODY_SECONDS = 30.0  # for a whole body to arrive
SAFE = ("GET", "HEAD")


class RefusedError(Exception):
    """The request ends here."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


Answer = Callable[[Scope, RefusedError], Response]


class Guard:
    """The innermost of the middlewares: hands on only what is allowed, with `state` saying who asks."""

    def __init__(
        self, app: ASGIApp, server: ServerSettings, tokens: Tokens, sessions: Sessions, answer: Answer
    ) -> None:
        """`answer` puts a refusal into words that suit the asker."""
        self._app = app
        self._max_body = server.max_body
        self._tokens = tokens
        self._sessions = sessions
        self._answer = answer
        self._rates = Rates(server.requests_per_second, server.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            receive = await self._checked(scope, receive)
        except RefusedError as refused:
            await self._answer(scope, refused)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """Raises RefusedError, or says where the body can be read."""
        headers, path, safe = Headers(scope=scope), scope["path"], scope["method"] in SAFE
        is_api = path.startswith("/api/")
        state: dict[str, Any] = scope.setdefault("state", {})
        state |= {"principal": None, "session": None, "form": {}}
        if path not in OPEN and not path.startswith("/assets/"):
            principal, session = self._who_asks(headers)
            if principal is None:
                raise RefusedError(401, "a valid token is needed", {"WWW-Authenticate": "Bearer"})
            state |= {"principal": principal, "session": session}
            self._check_rate(principal)
            if not safe:
                self._check_change(principal, session, path, is_api)
        if safe:
            return receive
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise RefusedError(403, "another site sent this form")  # the login form has no session to hold a token
        body = await self._body(headers, receive)
        if not is_api:
            state["form"] = _parse_form(body)
            session = state["session"]
            if session and not is_own_form(session, state["form"].pop("csrf", "")):
                raise RefusedError(403, "the form is not one of this session: open the page again")
        return _replay(body, receive)

    def _who_asks(self, headers: Headers) -> tuple[Principal | None, Session | None]:
        authorisation = headers.get("authorization")
        if authorisation is not None:
            scheme, _, token = authorisation.partition(" ")
            return (self._tokens.principal(token.strip()) if scheme.lower() == "bearer" else None), None
        session = self._sessions.find(session_cookie(headers))
        return (session.principal, session) if session else (None, None)

    def _check_rate(self, principal: Principal) -> None:
        if not self._rates.allows(principal.owner):
            wait = str(self._rates.seconds_until_next(principal.owner))
            raise RefusedError(429, "too many requests with this token", {"Retry-After": wait})

    def _check_change(self, principal: Principal, session: Session | None, path: str, is_api: bool) -> None:
        if path == "/logout" and session:
            return
        if principal.role != "run":
            raise RefusedError(403, "this token may read only")
        if any(path == prefix or path.startswith(f"{prefix}/") for prefix in READ_ONLY):
            raise RefusedError(405, "the dashboard can be read only", {"Allow": "GET"})
        if is_api and session:
            raise RefusedError(403, "changes through the API take a bearer token")
        if not is_api and not session:
            raise RefusedError(403, "forms take a session: use the API with a token")

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """All of it, in memory; never more than the limit."""
        too_large = RefusedError(413, f"a request has at most {self._max_body} bytes", {"Connection": "close"})
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._max_body:
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "the request was cut off")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._max_body:
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise RefusedError(408, "the request took too long to arrive", {"Connection": "close"}) from None


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Why a request was refused, as the API says it."""
    return JSONResponse({"detail": detail}, status, headers)


def session_cookie(headers: Headers) -> str:
    """The value of our cookie, or nothing."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _parse_form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise RefusedError(422, "the form cannot be read") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read, once; then whatever comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
