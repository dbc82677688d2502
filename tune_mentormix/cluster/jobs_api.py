"""Ray's Jobs API over HTTP, with every trouble that a user can have said in one line.

Where it is, who may use it, and whether it answers is settled here; what a job is, is `jobs`' business.
"""

from __future__ import annotations

import ipaddress
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from tune_mentormix.errors import RequestError, how_to_install

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from tune_mentormix.cluster.job_client import JobClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ANSWER_SECONDS = 5.0  # whether anybody does
REQUEST_SECONDS = 30.0  # of a request, before and between the parts of its answer
AGENT_SECONDS = 30.0  # in which a head that began just now finds a node to run a job's driver
_NO_AGENT = "No available agent"  # Ray's words for it
_ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
_TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as where it was started"
_environment = threading.Lock()

Answer = TypeVar("Answer")


class ClusterError(RequestError):
    """A cluster that does not answer, or not to us."""


class UnansweredError(ClusterError):
    """A cluster that took a request and says nothing: it may have done what it was asked."""


def jobs_address(address: str | None) -> str:
    """Where a cluster's Jobs API is: as given, or as `RAY_API_SERVER_ADDRESS` or `RAY_ADDRESS` says, or here.

    Raises:
        RequestError: unless it is the URL of one.
    """
    variables = (_ADDRESS_VARIABLE, "RAY_ADDRESS")
    named = [(address, "--address"), *((os.environ.get(name), name) for name in variables)]
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
    """Whether only this machine's own processes can be there; a forwarded port counts."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class JobsApi:
    """A cluster's Jobs API; no request is made before the first question."""

    def __init__(self, address: str, insecure: bool = False) -> None:
        """Takes an address from `jobs_address`; `insecure` admits an open cluster beyond loopback."""
        self.address = address
        self._insecure = insecure

    def submit(
        self, submission_id: str, entrypoint: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> None:
        """Sends a job, with the folder that `runtime_env` names. Raises ClusterError."""
        deadline = time.monotonic() + AGENT_SECONDS
        while True:
            try:
                self._ask(
                    lambda: self._client.submit_job(
                        submission_id=submission_id, entrypoint=entrypoint, runtime_env=runtime_env, metadata=metadata
                    )
                )
                return
            except ClusterError as error:
                if _NO_AGENT not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def stop(self, submission_id: str) -> None:
        """Has a job interrupted, and does not wait for it. Raises ClusterError."""
        self._ask(lambda: self._client.stop_job(submission_id))

    def jobs(self) -> dict[str, JobDetails]:
        """What Ray knows of the jobs submitted to it, by submission. Raises ClusterError."""
        found = self._ask(lambda: self._client.list_jobs())
        return {job.submission_id: job for job in found if job.submission_id}

    def logs(self, submission_id: str) -> str:
        """All that a job has said so far. Raises ClusterError."""
        return str(self._ask(lambda: self._client.get_job_logs(submission_id)))

    async def follow(self, submission_id: str) -> AsyncIterator[str]:
        """What a job says, until it ends. Raises ClusterError."""
        with self._troubles():
            async for lines in self._client.tail_job_logs(submission_id):
                yield lines

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        with self._troubles():
            return question()

    @cached_property
    def _client(self) -> JobClient:
        self._check()
        try:
            import aiohttp  # noqa: F401  # of ray[default], as the client needs it

            from tune_mentormix.cluster.job_client import JobClient
        except ImportError as error:
            raise RequestError(f"{error.name} is not installed: {how_to_install('cluster')}") from error
        with _environment, _address_in_environment(self.address):
            return JobClient(self.address)

    def _check(self) -> None:
        """Ray's client would wait for minutes where nobody answers, and would talk to a cluster open to everyone."""
        try:
            with urlopen(f"{self.address}/api/authentication_mode", timeout=ANSWER_SECONDS) as answer:
                mode = json.load(answer)["authentication_mode"]
        except HTTPError as error:
            raise ClusterError(
                f"{self.address} (--address) is not the dashboard of a Ray cluster: it answers {error.code}"
            ) from error
        except (OSError, URLError) as error:
            reason = getattr(error, "reason", error)
            reason = getattr(reason, "strerror", None) or str(reason) or "no answer"
            raise ClusterError(
                f"no Ray cluster answers at {self.address} (--address): {reason}; is its dashboard there, "
                "or its port forwarded?"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterError(f"{self.address} (--address) is not the dashboard of a Ray cluster") from error
        if mode == "disabled" and not self._insecure and not is_loopback(self.address):
            raise ClusterError(
                f"the Ray cluster at {self.address} is open to everyone who reaches it: start it with "
                "RAY_AUTH_MODE=token, or say --insecure"
            )

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        """What Ray's client raises is of no one kind: its own errors, those of requests, those of aiohttp."""
        try:
            yield
        except RequestError:
            raise
        except Exception as error:
            raise ClusterError(self._trouble(error)) from error

    def _trouble(self, error: Exception) -> str:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        if type(error).__name__ == "AuthenticationError":
            return f"the Ray cluster at {self.address} (--address) refuses the token: {_TOKEN}"
        if isinstance(error, OSError):
            return f"the Ray cluster at {self.address} (--address) does not answer any more: {said}"
        return f"the Ray cluster at {self.address} (--address) refuses: {said}"


@contextmanager
def _address_in_environment(address: str) -> Iterator[None]:
    """Ray's client prefers these variables to the address that it is given."""
    before = os.environ.get(_ADDRESS_VARIABLE)
    os.environ[_ADDRESS_VARIABLE] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ADDRESS_VARIABLE]
        else:
            os.environ[_ADDRESS_VARIABLE] = before
