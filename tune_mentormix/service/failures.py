"""How our exceptions become answers: one status each, and one line that says what to do."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tune_mentormix.cluster.jobs_api import ClusterError
from tune_mentormix.errors import RequestError
from tune_mentormix.service.artifacts import BusyError
from tune_mentormix.service.guard import Answer, RefusedError
from tune_mentormix.service.library import NotFoundError
from tune_mentormix.service.models import Problem
from tune_mentormix.service.policy import NotAllowedError
from tune_mentormix.storage.paths import StorageError

READING: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        401: "No valid token.",
        404: "There is no such search or trial.",
        409: "The search cannot be read, or is not in a state for this.",
        422: "The request makes no sense.",
        429: "Too many requests.",
        503: "The storage or the cluster does not answer.",
    }.items()
}
CHANGING: dict[int | str, dict[str, Any]] = READING | {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "The body cannot be read.",
        403: "The token may read only.",
        408: "The request took too long to arrive.",
        413: "The request is too large.",
    }.items()
}


def status_of(error: Exception) -> int:
    """The HTTP status of one of our exceptions."""
    for kind, status in (
        (NotFoundError, 404),
        (NotAllowedError, 422),
        (ClusterError, 503),
        (BusyError, 429),
        (RequestError, 409),
        (StorageError, 503),
    ):
        if isinstance(error, kind):
            return status
    return 500


def answer_failures(app: FastAPI, answer: Answer) -> None:
    """Gives the application its handlers; `answer` puts a refusal into words that suit the asker."""

    async def ours(request: Request, error: Exception) -> Response:
        detail = str(error) or "too much is asked at once: ask again later"
        return answer(request.scope, RefusedError(status_of(error), detail))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return answer(request.scope, RefusedError(422, f"{where[:100]}: {first['msg']}"))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(request.scope, RefusedError(error.status_code, error.detail, dict(error.headers or {})))

    async def bug(request: Request, error: Exception) -> Response:
        """`request_log` logs it, with the id that the answer has as a header."""
        return answer(request.scope, RefusedError(500, "something is wrong here: the server's log says more"))

    app.add_exception_handler(Exception, bug)
    for kind in (NotFoundError, RequestError, BusyError, StorageError):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
