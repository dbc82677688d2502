"""Turns exceptions into error responses: one status each, and one line that tells what to do."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from trainables.errors import describe_value
from tune_mentormix.cluster.jobs_api import ClusterError
from tune_mentormix.errors import RequestError
from tune_mentormix.service.admission import NotAllowedError
from tune_mentormix.service.dependencies import authenticate, authorize, bearer, get_service
from tune_mentormix.service.experiments import NotFoundError
from tune_mentormix.storage.paths import StorageError

MAX_DETAIL = 300  # characters of an answer that holds what was sent
Respond = Callable[[Request, StarletteHTTPException], Response]
STATUSES = (
    (NotFoundError, 404),
    (NotAllowedError, 422),
    (ClusterError, 503),
    (RequestError, 409),
    (StorageError, 503),
)


def status_of(error: Exception) -> int:
    """Returns the HTTP status of one of our exceptions."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def add_error_handlers(app: FastAPI, respond: Respond) -> None:
    """Gives the application its exception handlers; `respond` makes a page or JSON of an HTTP error."""

    async def ours(request: Request, error: Exception) -> Response:
        return respond(request, HTTPException(status_of(error), str(error)))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = first["loc"][1:] or first["loc"]
        return respond(request, HTTPException(422, describe_value(first | {"loc": where})[:MAX_DETAIL]))

    async def http(request: Request, error: Exception) -> Response:
        """A path or method that no route has runs no dependency: without a token it is refused here, as all are."""
        assert isinstance(error, StarletteHTTPException)
        if error.status_code in (404, 405):
            try:
                service = await get_service(request)
                await authorize(request, await authenticate(request, service, await bearer(request)))
            except HTTPException as refused:
                error = refused
        return respond(request, error)

    async def bug(request: Request, error: Exception) -> Response:
        """`request_logging` logs it, with the id that the response has as a header."""
        return respond(request, HTTPException(500, "something is wrong here: see the server's log"))

    app.add_exception_handler(Exception, bug)
    for kind in (NotFoundError, RequestError, StorageError):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(StarletteHTTPException, http)
