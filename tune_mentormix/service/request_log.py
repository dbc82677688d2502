"""Around everything: an id and a log line for each request, security headers, and an answer even to a bug."""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tune_mentormix.service.guard import problem
from tune_mentormix.service.logs import LOGGER

LONGEST_PATH = 300  # characters in a log line
QUIET = ("/healthz", "/metrics")  # asked every few seconds
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


class RequestLog:
    """The outermost of the middlewares."""

    def __init__(self, app: ASGIApp, https: bool) -> None:
        """`https`: whether browsers come over nothing else."""
        self._app = app
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Query strings and headers are not logged: a token may stand in them by mistake."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began, status = secrets.token_hex(8), time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            LOGGER.exception("a request failed", extra=_about(scope) | {"request_id": request_id})
            if not status:
                await problem(500, "something is wrong here")(scope, receive, send_with_headers)
        finally:
            seconds = round(time.monotonic() - began, 4)
            level = logging.DEBUG if scope["path"] in QUIET and status < 400 else logging.INFO
            fields = _about(scope) | {"request_id": request_id, "status": status, "seconds": seconds}
            LOGGER.log(level, "request", extra=fields)


def _about(scope: Scope) -> dict[str, Any]:
    principal = scope.get("state", {}).get("principal")
    parameters = scope.get("path_params", {})
    return {
        "method": scope["method"],
        "path": scope["path"][:LONGEST_PATH],
        "who": principal.owner if principal else None,
        "client": scope["client"][0] if scope.get("client") else None,
        "experiment": parameters.get("name"),
        "trial": parameters.get("number"),
    }
