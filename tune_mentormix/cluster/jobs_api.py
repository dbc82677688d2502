"""Ray's Jobs API over HTTP: its address, whether it may be used, and its errors as one line each."""

from __future__ import annotations

import ipaddress
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from trainables.errors import one_line
from tune_mentormix.errors import RequestError, how_to_install

if TYPE_CHECKING:
    import requests
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
CONNECT_SECONDS = 5.0  # in which a dashboard answers at all
REQUEST_SECONDS = 30.0  # for the answer to one request
_ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
_environment = threading.Lock()


class ClusterError(RequestError):
    """The cluster does not answer, or refuses the request."""


class NoAnswerError(ClusterError):
    """The cluster took a request and did not answer: it may have done what it was asked."""


def jobs_address(address: str | None) -> str:
    """Returns the URL of a cluster's Jobs API: as given, else from `RAY_API_SERVER_ADDRESS`, `RAY_ADDRESS` or Ray.

    Raises RequestError if it is not the URL of a dashboard.
    """
    variables = (_ADDRESS_VARIABLE, "RAY_ADDRESS")
    named = [(address, "--dashboard"), *((os.environ.get(name), name) for name in variables)]
    chosen, source = next(((value, source) for value, source in named if value), (DEFAULT_ADDRESS, "the default"))
    parts = urlsplit(chosen)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:  # a port that is no number
        usable = False
    if not usable or parts.username or parts.password or parts.query or parts.path.strip("/"):
        raise RequestError(
            f"the address of a cluster's jobs is that of its dashboard, like {DEFAULT_ADDRESS}, "
            f"got {chosen!r} ({source})"
        )
    return chosen.rstrip("/")


def is_loopback(address: str) -> bool:
    """Whether only processes of this machine can listen there; a forwarded port counts."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable while the block runs."""
    with _environment:
        before = os.environ.get(name)
        os.environ[name] = value
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


class JobsApi:
    """One cluster's Jobs API; it connects at the first request."""

    def __init__(self, address: str, insecure: bool = False) -> None:
        """Takes an address from `jobs_address`; `insecure` allows an unauthenticated cluster beyond loopback."""
        self.address = address
        self._insecure = insecure

    @contextmanager
    def client(self) -> Iterator[JobSubmissionClient]:
        """Yields Ray's client, whose requests time out. Raises ClusterError for every error within the block."""
        try:
            yield self._client
        except RequestError:
            raise
        except Exception as error:  # Ray's own errors, those of requests, those of aiohttp
            raise self._as_cluster_error(error) from error

    @cached_property
    def _client(self) -> JobSubmissionClient:
        self._check_usable()
        try:
            import aiohttp  # noqa: F401  # of ray[default], as the client needs it
            from ray.job_submission import JobSubmissionClient
        except ImportError as error:
            raise RequestError(f"{error.name} is not installed: {how_to_install('cluster')}") from error

        class Client(JobSubmissionClient):
            def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
                return super()._do_request(method, endpoint, timeout=REQUEST_SECONDS, **options)  # else it has none

        with environment_variable(_ADDRESS_VARIABLE, self.address):  # which Ray prefers to its argument
            return Client(self.address)

    def _check_usable(self) -> None:
        """Raises ClusterError where Ray's client would wait for minutes, or use an unauthenticated cluster."""
        try:
            with urlopen(f"{self.address}/api/authentication_mode", timeout=CONNECT_SECONDS) as answer:
                mode = json.load(answer)["authentication_mode"]
        except HTTPError as error:
            raise ClusterError(
                f"{self.address} (--dashboard) is not the dashboard of a Ray cluster: it answers {error.code}"
            ) from error
        except OSError as error:
            reason = one_line(getattr(error, "reason", error))
            raise ClusterError(
                f"no Ray cluster answers at {self.address} (--dashboard): {reason}; is its dashboard there, "
                "or its port forwarded?"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterError(f"{self.address} (--dashboard) is not the dashboard of a Ray cluster") from error
        if mode == "disabled" and not self._insecure and not is_loopback(self.address):
            raise ClusterError(
                f"the Ray cluster at {self.address} has no authentication: start it with RAY_AUTH_MODE=token, or add "
                "--insecure"
            )

    def _as_cluster_error(self, error: Exception) -> ClusterError:
        cluster = f"the Ray cluster at {self.address} (--dashboard)"
        kind = type(error).__name__
        reason = one_line(error)
        if kind == "ReadTimeout":
            return NoAnswerError(f"{cluster} does not answer within {REQUEST_SECONDS:g} s")
        if kind == "AuthenticationError":
            return ClusterError(
                f"{cluster} refuses the token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH "
                "as where it was started"
            )
        if isinstance(error, OSError):
            return ClusterError(f"{cluster} does not answer any more: {reason}")
        return ClusterError(f"{cluster} refuses: {reason}")
