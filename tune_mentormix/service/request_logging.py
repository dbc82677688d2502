"""Logs as JSON lines on stderr, one for each request; every response gets an id and the security headers."""

from __future__ import annotations

import json
import logging
import secrets
import sys
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger("tune_mentormix.service")
MAX_PATH = 300  # characters in a log line
QUIET_PATHS = ("/healthz", "/metrics")  # asked every few seconds
SECURITY_HEADERS = {
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
_FIELDS = (
    *("request_id", "method", "path", "status", "seconds", "who", "client"),
    *("event", "experiment", "trial", "attempt", "node", "reason"),
)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Writes time, level, message, and those of our fields that the record has."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


class RequestLog:
    """The outermost ASGI middleware."""

    def __init__(self, app: ASGIApp, https: bool) -> None:
        """`https`: whether browsers come over nothing else."""
        self.app = app
        self._headers = SECURITY_HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request. Query strings and headers are not logged: they may hold a token by mistake."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, began, status = secrets.token_hex(8), time.monotonic(), 0
        scope.setdefault("state", {})  # in which the dependencies note who asks

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
            await self.app(scope, receive, send_with_headers)
        except Exception:
            LOGGER.exception("a request failed", extra=_fields(scope) | {"request_id": request_id})
        finally:
            seconds = round(time.monotonic() - began, 4)
            level = logging.DEBUG if scope["path"] in QUIET_PATHS and status < 400 else logging.INFO
            fields = _fields(scope) | {"request_id": request_id, "status": status, "seconds": seconds}
            LOGGER.log(level, "request", extra=fields)


def log_as_json() -> None:
    """Sends everything that is logged in this process to stderr, as JSON lines, and nothing to the console."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "tune_mentormix"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.INFO)


def log(message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Logs one line."""
    LOGGER.log(level, message, extra=fields)


def _fields(scope: Scope) -> dict[str, Any]:
    principal = scope["state"].get("principal")
    parameters = scope.get("path_params", {})
    return {
        "method": scope["method"],
        "path": scope["path"][:MAX_PATH],
        "who": principal.owner if principal else None,
        "client": scope["client"][0] if scope.get("client") else None,
        "experiment": parameters.get("name"),
        "trial": parameters.get("number"),
    }
