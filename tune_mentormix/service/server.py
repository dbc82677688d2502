"""Runs the service: settles where it listens and who may, refuses what would be open to everyone, then serves."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from tune_mentormix.errors import RequestError
from tune_mentormix.service.app import make_app
from tune_mentormix.service.cluster_jobs import jobs_of
from tune_mentormix.service.configuration import ServerSettings
from tune_mentormix.service.logs import log, log_as_json
from tune_mentormix.service.tokens import DEFAULT_FILE, ENVIRONMENT, Tokens, make_tokens, read_tokens

MOST_CONNECTIONS = 2_000  # further ones are answered 503 at once
KEEP_ALIVE_SECONDS = 10
CLOSE_SECONDS = 5


@dataclass(frozen=True)
class Listening:
    """Where the service listens."""

    host: str
    port: int
    certificate: Path | None = None  # with its key: HTTPS
    key: Path | None = None

    def __post_init__(self) -> None:
        """Raises RequestError if only one of certificate and key is given, or one is no file."""
        if (self.certificate is None) != (self.key is None):
            raise RequestError("--certificate and --key belong together: give both, or neither")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise RequestError(f"there is no file {path} (--certificate, --key)")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can come."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def settle_tokens(listening: Listening, file: Path | None) -> Tokens:
    """The tokens that are valid; on loopback, a file of new ones is made where there are none.

    Raises:
        RequestError: if there are none and the service would be reached from other machines, or they cannot be read.
    """
    default = DEFAULT_FILE.expanduser()
    from_environment = any(os.environ.get(ENVIRONMENT.format(role=role)) for role in ("READ", "RUN"))
    if file is None and not from_environment:
        if listening.is_loopback:
            make_tokens(default)
        file = default if default.exists() else None
    tokens = read_tokens(file, os.environ)
    if not tokens:
        raise RequestError(
            f"--host {listening.host} is reached from other machines, and nobody has a token: "
            "write a file with mode 600 (--tokens), or set TUNE_MENTORMIX_RUN_TOKEN"
        )
    log(f"tokens are those of {file}" if file else "tokens are those of the environment")
    return tokens


def serve(server: ServerSettings, listening: Listening, tokens_file: Path | None) -> None:
    """Serves until it is told to stop by SIGINT or SIGTERM.

    Raises:
        RequestError: if it may not, or cannot listen there.
    """
    log_as_json()
    jobs = jobs_of(server)
    tokens = settle_tokens(listening, tokens_file)
    _check_free(listening)
    https = server.https or listening.certificate is not None
    if not listening.is_loopback and not https:
        log("tokens travel unencrypted: give --certificate and --key, or put a proxy with HTTPS in front")
    app = make_app(server.model_copy(update={"https": https}), tokens, jobs)
    log(f"serving {server.storage} on http{'s' if listening.certificate else ''}://{listening.host}:{listening.port}")
    uvicorn.run(
        app,
        host=listening.host,
        port=listening.port,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
        **settings_of_uvicorn(),
    )


def settings_of_uvicorn() -> dict[str, Any]:
    """Our own logs and headers, no websockets, and a bound on connections."""
    return {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "ws": "none",
        "http": "h11",  # the same on every machine, whatever else is installed
        "lifespan": "on",
        "limit_concurrency": MOST_CONNECTIONS,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": CLOSE_SECONDS,
    }


def _check_free(listening: Listening) -> None:
    """Said before anything is imported or logged that takes long."""
    try:
        with socket.create_server((listening.host, listening.port)):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"cannot listen on {listening.host}:{listening.port}: {reason} (--host, --port)"
        ) from error
