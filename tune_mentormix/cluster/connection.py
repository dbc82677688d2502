"""Starting Ray on this machine for one process, or joining a cluster."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
import ray

from trainables.errors import one_line
from trainables.plugins import source_folders
from tune_mentormix.cluster.jobs import package_folders
from tune_mentormix.cluster.jobs_api import environment_variable
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError, SearchFailedError

logger = logging.getLogger(__name__)

START_ATTEMPTS = 6  # of half a minute each, which is fixed in Ray
CONNECT_SECONDS = 5.0  # in which a cluster's port accepts a connection
_TOO_SLOW = "timed out during startup"  # in Ray's words; its half minute cannot be changed (2.60)
_JOIN_ATTEMPTS = "RAY_gcs_server_port_wait_time_s"  # of half a minute each, 20 by default


@contextmanager
def connection(settings: SearchSettings, verbose: bool) -> Iterator[None]:
    """Joins the cluster at `address` (or `RAY_ADDRESS`), or starts Ray on this machine for this process alone.

    The project's code, and that of the plug-ins, travels with the search. Ray's own ports listen on every interface,
    which cannot be changed (2.60), so the Ray started here demands a token that only this process and its workers
    know. A process that is connected already keeps its connection. Raises RequestError if there is no cluster at the
    address, SearchFailedError if Ray cannot start on this machine.
    """
    if ray.is_initialized():
        yield
        return
    code = [*package_folders(), *source_folders(settings.plugins())]
    _connect(settings.address or os.environ.get("RAY_ADDRESS"), verbose, code)
    try:
        yield
    finally:
        ray.shutdown()


def joins_cluster(address: str | None) -> bool:
    """Whether a search with this `address` joins a cluster, instead of starting Ray on this machine."""
    return (address or os.environ.get("RAY_ADDRESS")) not in (None, "", "local")


def check_reachable(address: str) -> None:
    """Raises RequestError if nothing listens at a `HOST:PORT`; Ray itself would try for over a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # `auto` or `local`, which Ray resolves
    if not (port.isascii() and port.isdigit() and int(port) < 2**16):
        raise RequestError(f"address must be auto, HOST:PORT or ray://HOST:PORT, got {address!r} (--ray-address)")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            return
    except OSError as error:
        raise _no_cluster(address, error) from error


def _connect(address: str | None, verbose: bool, code: list[Path]) -> None:
    if not verbose:
        warnings.filterwarnings("ignore", module=r"ray\..*")
        for name in ("ray", "ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        ray._private.worker.print_to_stdstream = _print_nothing  # else pages of the raylet's log, on stdout
    joins = address not in (None, "local")
    if address and joins:
        check_reachable(address)
    elif "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or Ray writes one that every user can read
    own_packages = {"py_modules": [str(path) for path in code], "excludes": ["__pycache__"]}
    output: list[bytes] = []
    try:
        with (
            environment_variable(_JOIN_ATTEMPTS, os.environ.get(_JOIN_ATTEMPTS, "1")) if joins else nullcontext(),
            _captured_stderr(output) if joins and not verbose else nullcontext(),
            _without_hangups(),
        ):
            start_ray(
                address=address or "local",
                runtime_env=own_packages if joins and not _is_job_with_code() else None,
                include_dashboard=None if address else False,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.CRITICAL,
                configure_logging=verbose,
            )
    except Exception as error:  # Ray raises a plain one where its own processes do not start in time
        if address is None or not joins:
            reason = one_line(error).rstrip(".")
            raise SearchFailedError(
                f"Ray cannot start on this machine: {reason}; try again when the machine is less busy, or read "
                "Ray's logs, in /tmp/ray/session_latest/logs unless RAY_TMPDIR is set"
            ) from error
        if any(b"InvalidAuthToken" in text for text in output):
            raise RequestError(
                f"the Ray cluster at {address!r} (--ray-address) refuses the token: set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN as where it was started"
            ) from error
        raise _no_cluster(address, error) from error


def start_ray(**arguments: Any) -> None:
    """Calls `ray.init`, up to six times if Ray's own processes do not come up in the half minute it gives them."""
    for attempt in range(1, START_ATTEMPTS + 1):
        before = set(psutil.Process().children(recursive=True))
        try:
            ray.init(**arguments)
            return
        except Exception as error:
            if _TOO_SLOW not in str(error) or attempt == START_ATTEMPTS:
                raise
        logger.warning("Ray did not start within half a minute, so this machine is busy: trying once more")
        started = set(psutil.Process().children(recursive=True)) - before
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(started, timeout=CONNECT_SECONDS)


def _print_nothing(data: object, ignore_prefix: bool = False) -> None:
    """Stands in for what prints Ray's messages about its processes; their logs are in its session's folder."""


def _no_cluster(address: str, error: Exception) -> RequestError:
    reason = one_line(error).rstrip(".")
    return RequestError(
        f"no Ray cluster answers at {address!r} (--ray-address): {reason}; is `ray start --head` running there?"
    )


@contextmanager
def _without_hangups() -> Iterator[None]:
    """Blocks SIGHUP: processes that start within the block survive a terminal that is closed.

    They end with the driver, which needs them to end cleanly.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _captured_stderr(output: list[bytes]) -> Iterator[None]:
    """Appends to `output` what Ray's C++ core writes to stderr, which Python's logging does not see."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            output.append(file.read())


def _is_job_with_code() -> bool:
    """Whether this process is the driver of a job that brought code: its workers get that, and no second one."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return bool((job.get("runtime_env") or {}).keys() & {"working_dir", "py_modules"})
