"""Authentication: tokens of three roles, browser sessions, and rate limits.

Tokens come from a file that only its owner can read, or from the environment. They are kept as digests and compared
in constant time; no message, log line or page holds one.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from cachetools import TTLCache
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from trainables.errors import one_line
from tune_mentormix.config.settings import OWNER_PATTERN, default_owner
from tune_mentormix.errors import RequestError

Role = Literal["read", "run", "admin"]  # each may do what those before it may
MIN_TOKEN_LENGTH = 24  # characters
MAX_SESSIONS = 1_000  # of one server; the oldest is signed out for one more
DEFAULT_FILE = Path("~/.config/tune-mentormix/tokens")
COOKIE = "session"
IPV6_SITE_BITS = 64  # within such a network, anybody takes any address
_LINE = re.compile(rf"(?P<role>{'|'.join(get_args(Role))})\s+(?P<owner>{OWNER_PATTERN})\s+(?P<token>\S+)")


@dataclass(frozen=True)
class Principal:
    """The owner of a token, who sends a request: a name, which searches, logs and limits have too, and a role."""

    owner: str
    role: Role

    @property
    def may_run(self) -> bool:
        """Whether it may start searches."""
        return self.role != "read"

    def may_change(self, owner: str | None) -> bool:
        """Tells whether it may stop, resume and delete the searches of this owner; None where it is not known."""
        return self.role == "admin" or (self.may_run and owner == self.owner)


class Tokens:
    """The tokens that are valid."""

    def __init__(self, tokens: Iterable[tuple[Principal, str]]) -> None:
        self._digests = [(principal, digest(token)) for principal, token in tokens]

    def __len__(self) -> int:
        return len(self._digests)

    def principal(self, token: str) -> Principal | None:
        """Returns the token's owner, or None. Compares in constant time."""
        given, found = digest(token), None
        for principal, known in self._digests:
            if hmac.compare_digest(given, known):
                found = principal
        return found


@dataclass(frozen=True)
class Session:
    """A browser that signed in."""

    principal: Principal
    csrf: str  # is in each form, and must come back with it
    by_proxy: bool = False  # not with a token; it ends when the proxy names somebody else, or nobody


class Sessions(TTLCache[str, Session]):
    """Sessions by cookie, until they expire, are signed out, or the server ends."""

    def __init__(self, seconds: float) -> None:
        super().__init__(MAX_SESSIONS, seconds)

    def begin(self, principal: Principal, by_proxy: bool = False) -> str:
        """Signs in, with a token or by the proxy in front, and returns the value of the cookie.

        It is 256 random bits, which timing a hash table does not find.
        """
        cookie = secrets.token_urlsafe(32)
        self[cookie] = Session(principal, secrets.token_urlsafe(32), by_proxy)
        return cookie


class RateLimiter:
    """Allows each key `burst` hits at once, and `per_second` on average."""

    def __init__(self, per_second: float, burst: float) -> None:
        hits = max(1, int(burst))
        self._limit = RateLimitItemPerSecond(hits, math.ceil(hits / per_second))
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def hit(self, key: str) -> bool:
        """Counts a hit, and returns whether it is within the limit."""
        return self._limiter.hit(self._limit, key)

    def is_reached(self, key: str) -> bool:
        """Tells whether the next hit would be over the limit."""
        return not self._limiter.test(self._limit, key)

    def retry_after(self, key: str) -> int:
        """Returns the seconds until a hit is within the limit again, at least one."""
        return max(1, math.ceil(self._limiter.get_window_stats(self._limit, key).reset_time - time.time()))


class FailedLogins:
    """Slows down the guessing of tokens from one address, and locks nobody out who has signed in from there."""

    def __init__(self, per_minute: float, known_seconds: float) -> None:
        self._limiter = RateLimiter(per_minute / 60, per_minute)
        self._known: TTLCache[tuple[str, str], bool] = TTLCache(MAX_SESSIONS, known_seconds)

    def retry_after(self, address: str, principal: Principal | None) -> int | None:
        """Returns how many seconds a login has to wait; None if it may be tried now."""
        client = _site(address)
        if principal and (client, principal.owner) in self._known:
            return None
        return self._limiter.retry_after(client) if self._limiter.is_reached(client) else None

    def failed(self, address: str) -> None:
        """Counts a wrong token."""
        self._limiter.hit(_site(address))

    def succeeded(self, address: str, principal: Principal) -> None:
        """Remembers that the token's owner uses this address: others who fail there will not lock it out."""
        self._known[_site(address), principal.owner] = True


def _site(address: str) -> str:
    """Returns whom an address belongs to: one IPv4 address, or a network of IPv6, of which each site has one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, IPV6_SITE_BITS), strict=False))


def read_tokens(file: Path | None, environment: Mapping[str, str]) -> Tokens:
    """Reads the tokens of a file, if one is given, and of the environment, whose owner is the user of this process.

    Raises RequestError if the file is missing, others may read it, or a token is too short; the token is not shown.
    """
    tokens = _file_tokens(file) if file else []
    for role in get_args(Role):
        name = f"TUNE_MENTORMIX_{role.upper()}_TOKEN"
        if environment.get(name):
            owner = default_owner() or f"{role}-environment"
            tokens.append((Principal(owner, role), _long_enough(environment[name], name)))
    return Tokens(tokens)


def make_tokens(file: Path) -> None:
    """Writes a file with one new token of each role for this user, who alone can read it; an existing file stays."""
    text = "# role  owner  token\n" + "".join(
        f"{role} {default_owner() or f'{role}-default'} {secrets.token_urlsafe(32)}\n" for role in get_args(Role)
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise RequestError(f"cannot write {file}: {one_line(error)} (--tokens)") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def _file_tokens(file: Path) -> list[tuple[Principal, str]]:
    try:
        with file.open(encoding="utf-8") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if mode & 0o077:
                raise RequestError(f"{file} has mode {mode:o}, others may read it: chmod 600 {file} (--tokens)")
            lines = stream.read(100_000).splitlines()
    except OSError as error:
        raise RequestError(f"cannot read {file}: {one_line(error)} (--tokens)") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{file} is not UTF-8 text (--tokens)") from error
    tokens = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        place, match = f"{file}, line {number}", _LINE.fullmatch(line.strip())
        if not match:
            raise RequestError(f"{place} must read `ROLE OWNER TOKEN`, with role read, run or admin (--tokens)")
        role = cast("Role", match["role"])
        tokens.append((Principal(match["owner"], role), _long_enough(match["token"], place)))
    return tokens


def _long_enough(token: str, where: str) -> str:
    if len(token) < MIN_TOKEN_LENGTH:
        raise RequestError(f"the token of {where} is too short: it takes {MIN_TOKEN_LENGTH} characters at least")
    return token


def digest(token: str) -> bytes:
    """Returns what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
