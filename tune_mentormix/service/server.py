"""Runs the service: checks the address and the tokens, refuses to serve without any beyond loopback, then serves."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from trainables.errors import one_line
from tune_mentormix.cluster.jobs import ClusterJobs
from tune_mentormix.errors import RequestError
from tune_mentormix.results.notifications import Notifier
from tune_mentormix.service.app import make_app
from tune_mentormix.service.auth import DEFAULT_FILE, Tokens, make_tokens, read_tokens
from tune_mentormix.service.request_logging import log, log_as_json
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.service.single_sign_on import SECRET_VARIABLE, SingleSignOn

UVICORN_OPTIONS: dict[str, Any] = {  # our own logs and headers, no websockets, and a limit on connections
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "ws": "none",
    "http": "h11",  # the same on every machine, whatever else is installed
    "lifespan": "on",
    "limit_concurrency": 2_000,  # connections; further ones are answered 503 at once
    "timeout_keep_alive": 10,
    "timeout_graceful_shutdown": 5,
}


def uvicorn_options(server: ServerSettings) -> dict[str, Any]:
    """Returns how uvicorn runs the service; it takes the client's address from the header of trusted proxies only."""
    proxies = server.trusted_proxies
    return UVICORN_OPTIONS | {"proxy_headers": bool(proxies), "forwarded_allow_ips": proxies}


@dataclass(frozen=True)
class BindAddress:
    """The address that the service binds to."""

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
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def load_tokens(address: BindAddress, file: Path | None) -> Tokens:
    """Returns the tokens that are valid; on loopback, a file of new ones is written if there are none.

    Raises RequestError if there are none and other machines reach the service, or they cannot be read.
    """
    default = DEFAULT_FILE.expanduser()
    if file is None and not read_tokens(None, os.environ):
        if address.is_loopback:
            make_tokens(default)
        file = default if default.exists() else None
    tokens = read_tokens(file, os.environ)
    if not tokens:
        raise RequestError(
            f"--host {address.host} is reached from other machines, and there is no token: "
            "write a file with mode 600 (--tokens), or set TUNE_MENTORMIX_RUN_TOKEN"
        )
    log(f"tokens are those of {file}" if file else "tokens are those of the environment")
    return tokens


def serve(server: ServerSettings, address: BindAddress, tokens_file: Path | None) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP (unless that is ignored, as under `nohup`).

    Raises RequestError if it may not, or cannot bind to the address.
    """
    log_as_json()
    cluster = ClusterJobs(server.address, server.storage, server.insecure) if server.address is not None else None
    single_sign_on = _single_sign_on(server)
    tokens = load_tokens(address, tokens_file)
    _check_free(address)
    notifier = Notifier(server.notify, server.notify_on, "notify") if server.notify else None
    https = server.https or address.certificate is not None
    if not address.is_loopback and not https:
        log("tokens travel unencrypted: give --certificate and --key, or put a proxy with HTTPS in front")
    log(f"serving {server.storage} on http{'s' if address.certificate else ''}://{address.host}:{address.port}")
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # the terminal was closed; uvicorn knows the others
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    uvicorn.run(
        make_app(server.model_copy(update={"https": https}), tokens, cluster, notifier, single_sign_on),
        host=address.host,
        port=address.port,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        **uvicorn_options(server),
    )


def _single_sign_on(server: ServerSettings) -> SingleSignOn | None:
    """Returns what the settings ask for; the secret comes from the environment. Raises RequestError without one."""
    if server.sign_in_header is None:
        return None
    secret = os.environ.get(SECRET_VARIABLE, "")
    return SingleSignOn(server.sign_in_header, secret, server.sign_in_role, server.admins, server.sign_out_path)


def _check_free(address: BindAddress) -> None:
    """Raises RequestError before anything is read or logged that takes long."""
    try:
        with socket.create_server((address.host, address.port)):
            pass
    except (OSError, OverflowError) as error:
        place = f"{address.host}:{address.port}"
        raise RequestError(f"cannot listen on {place}: {one_line(error)} (--host, --port)") from error
