"""Connecting to Ray and checking, before anything starts, that the trials can run there."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray

from tune_mentormix.cluster.jobs import PACKAGES
from tune_mentormix.errors import RequestError

_ANSWER_SECONDS = 5.0  # in which a cluster's port takes a connection
# Ray's attempts to join where a port answers but is no Ray: one, of half a minute, and not the default's twenty.
_ATTEMPTS = ("RAY_gcs_server_port_wait_time_s", "1")


@contextmanager
def connection(address: str | None, verbose: bool) -> Iterator[None]:
    """Joins the cluster at `address` (or `RAY_ADDRESS`), or starts Ray on this machine for itself alone.

    Ray's own ports listen on every interface and it offers no other way (2.60), so the Ray started here demands a
    token that only this process and its workers know.

    Within a process that is connected already, that connection is used and left as it is.

    Raises:
        RequestError: if there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    _connect(address or os.environ.get("RAY_ADDRESS"), verbose)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None, verbose: bool) -> None:
    if not verbose:
        warnings.filterwarnings("ignore", module=r"ray\..*")
        for name in ("ray", "ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    joins = address not in (None, "local")
    if address and joins:
        check_that_somebody_answers(address)
    elif "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or Ray writes one that everybody can read
    said: list[bytes] = []
    try:
        with (
            _one_attempt() if joins else nullcontext(),
            _core_output(said) if joins and not verbose else nullcontext(),
        ):
            ray.init(
                address=address or "local",
                runtime_env=_own_code() if joins and not _came_with_the_job() else None,
                include_dashboard=None if address else False,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.CRITICAL,
                configure_logging=verbose,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address is None:
            raise
        if any(b"InvalidAuthToken" in output for output in said):
            raise RequestError(
                f"the Ray cluster at {address!r} (--address) refuses the token: set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN as where it was started"
            ) from error
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise RequestError(
            f"no Ray cluster answers at {address!r} (--address): {reason}; is `ray start --head` running there?"
        ) from error


@contextmanager
def _one_attempt() -> Iterator[None]:
    """For joining alone: starting a Ray of one's own may take longer."""
    name, attempts = _ATTEMPTS
    before = os.environ.get(name)
    os.environ[name] = before or attempts
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


@contextmanager
def _core_output(said: list[bytes]) -> Iterator[None]:
    """Puts what Ray's core writes to stderr, past Python and all levels of logging, into `said`."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            output.seek(0)
            said.append(output.read())


def check_that_somebody_answers(address: str) -> None:
    """Raises RequestError if nothing listens at a `HOST:PORT`; Ray itself would try for over a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # `auto` or `local`: Ray's to resolve
    if not (port.isascii() and port.isdigit() and int(port) < 2**16):
        raise RequestError(f"address must be auto, HOST:PORT or ray://HOST:PORT, got {address!r} (--address)")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
            return
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        raise RequestError(
            f"no Ray cluster answers at {address!r} (--address): {reason}; is `ray start --head` running there?"
        ) from error


def _own_code() -> dict[str, Any]:
    """Has every node run this code, whatever it has itself: our packages travel, nothing else of this folder does."""
    packages = [str(Path(str(package.__file__)).parent) for package in PACKAGES]
    return {"py_modules": packages, "excludes": ["__pycache__"]}


def _came_with_the_job() -> bool:
    """Whether this process is the driver of a job that brought code along: Ray gives the workers that, or refuses."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return bool((job.get("runtime_env") or {}).keys() & {"working_dir", "py_modules"})
