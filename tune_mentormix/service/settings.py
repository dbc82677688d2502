"""ServerSettings: what a request may ask for, and how much of it."""

from __future__ import annotations

import re
import stat
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from trainables.settings import DatasetName, HuggingFaceName, Settings, UserPath
from tune_mentormix.config.settings import SECONDS_PER_UNIT, Seconds, StorageSetting, list_of_one
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError
from tune_mentormix.results.news import NewsKind
from tune_mentormix.service.auth import Role
from tune_mentormix.storage.yaml_files import YamlDocument, read_yaml

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=1e-3, le=1e9)]  # a lower one would lock for hours


def _network(text: str) -> str:
    try:
        return str(ip_network(text) if "/" in text else ip_address(text))
    except ValueError as error:
        raise ValueError(
            f"must be addresses such as 10.0.0.5 or networks such as 10.0.0.0/8, got {text!r}"
        ) from error


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
        raise ValueError(f"must be the name of a header such as X-Auth-Request-Email, got {text!r}")
    return text


def _own_path(text: str) -> str:
    if not re.fullmatch(r"/[^/\\\s]\S*", text):
        raise ValueError(f"must be a path on this host such as /oauth2/sign_out, got {text!r}")
    return text


class ServerSettings(Settings):
    """One service: where searches are stored and run, and the limits of a submitted one."""

    storage: StorageSetting = Path("results")  # of all experiments
    address: str | None = None  # of the cluster's Jobs API, http://head:8265; None: nothing can be started or stopped
    insecure: bool = False  # use a cluster beyond loopback although it takes no token
    datasets: dict[DatasetName | HuggingFaceName, list[UserPath]] = Field(default={"digits": []})  # with data_dirs
    files: list[UserPath] = Field(default_factory=list)  # what labels_file, clean_validation and verified may name
    max_trials: Count = 100  # of one search
    max_epochs: Count = 500  # of one trial
    max_concurrent: Count = 8  # trials of one search at once
    max_time: Seconds = 24.0 * SECONDS_PER_UNIT["h"]  # of one run of a search
    max_restarts: Annotated[int, Field(ge=0)] = 5  # of one trial
    max_cpus_per_trial: Annotated[float, Field(gt=0)] = 8.0
    max_gpus_per_trial: Annotated[float, Field(ge=0)] = 1.0
    max_jobs: Count = 8  # searches that run or wait at once
    max_jobs_per_owner: Count | None = None  # the same of one owner; None: as many as max_jobs
    max_gpus_per_owner: Annotated[float, Field(ge=0)] | None = None  # of all trials of one owner's searches at once
    max_body: Count = 256_000  # bytes of a request
    max_streams: Count = 256  # event streams, all together
    requests_per_second: Rate = 20.0  # of one token, on average
    burst: Count = 100  # of one token, at once
    logins_per_minute: Rate = 10.0  # failed ones, from one address
    session_time: Seconds = 12.0 * SECONDS_PER_UNIT["h"]  # until a browser has to sign in again
    notify: Annotated[list[str], BeforeValidator(list_of_one)] = Field(default_factory=list)  # addresses for Apprise
    notify_on: list[NewsKind] = Field(default_factory=lambda: list(get_args(NewsKind)))  # what is told there
    sign_in_header: Annotated[str, AfterValidator(_header_name)] | None = None  # names whom a proxy signed in
    sign_in_role: Role = "run"  # of all who sign in so
    admins: list[str] = Field(default_factory=list)  # but for these, who are admins
    sign_out_path: Annotated[str, AfterValidator(_own_path)] | None = None  # of the proxy, where they sign out
    https: bool = False  # a proxy in front speaks HTTPS: cookies are sent over nothing else
    # addresses or networks of the proxies in front: their X-Forwarded-For tells whom a request is from, no other's
    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = Field(default_factory=list)


def read_server_settings(path: Path | None, options: dict[str, Any]) -> ServerSettings:
    """Merges the YAML file (if any) with the command's options by key (None: not given); options win.

    Raises RequestError, which names the key, its value, what is allowed, and the line or option; also if others may
    read addresses to notify, which hold passwords.
    """
    document = read_yaml(path) if path else YamlDocument({}, "the options")
    given = {key: value for key, value in options.items() if value is not None}
    try:
        settings = ServerSettings.model_validate(document.values | given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        place = f"--{key.replace('_', '-')}" if key in given else document.place(key)
        raise RequestError(f"{describe(first, ServerSettings)} ({place})") from error
    if path and settings.notify and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise RequestError(
            f"{path} names addresses in notify and has mode {mode:o}, others may read it: chmod 600 {path}"
        )
    return settings
