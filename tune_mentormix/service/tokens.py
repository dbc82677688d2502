"""Who may: tokens of two roles, from a file that only its owner can read, or from the environment.

Tokens are kept as digests and compared in constant time; no message, log line or page holds one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tune_mentormix.errors import RequestError

Role = Literal["read", "run"]  # run may read, too
SHORTEST = 24  # characters
ENVIRONMENT = "TUNE_MENTORMIX_{role}_TOKEN"
DEFAULT_FILE = Path("~/.config/tune-mentormix/tokens")
_LINE = re.compile(r"(?P<role>\S+)\s+(?P<owner>[A-Za-z0-9._-]{1,40})\s+(?P<token>\S+)")


@dataclass(frozen=True)
class Principal:
    """Who asks: the owner of a token, for logs and limits, and what it allows."""

    owner: str
    role: Role


class Tokens:
    """The tokens that are valid."""

    def __init__(self, tokens: Iterable[tuple[Principal, str]]) -> None:
        """Takes each token with whom it stands for."""
        self._digests = [(principal, _digest(token)) for principal, token in tokens]

    def __len__(self) -> int:
        return len(self._digests)

    def principal(self, token: str) -> Principal | None:
        """Whose token this is. It takes as long whichever it is, or none."""
        given, found = _digest(token), None
        for principal, digest in self._digests:
            if hmac.compare_digest(given, digest):
                found = principal
        return found


def read_tokens(file: Path | None, environment: Mapping[str, str]) -> Tokens:
    """Tokens of a file, if one is given, and of the environment.

    Raises:
        RequestError: if the file is missing, others may read it, or a token is too short; the token is not said.
    """
    tokens = _from_file(file) if file else []
    for role in get_args(Role):
        name = ENVIRONMENT.format(role=role.upper())
        if environment.get(name):
            tokens.append((Principal(f"{role}-environment", role), _long_enough(environment[name], name)))
    return Tokens(tokens)


def make_tokens(file: Path) -> None:
    """Writes a file with one new token of each role, readable for its owner only; one that is there stays."""
    text = "# role  owner  token\n" + "".join(
        f"{role} {role}-default {secrets.token_urlsafe(32)}\n" for role in get_args(Role)
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror} (--tokens)") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def _from_file(file: Path) -> list[tuple[Principal, str]]:
    try:
        with file.open(encoding="utf-8") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if mode & 0o077:
                raise RequestError(f"{file} has mode {mode:o}, others may read it: chmod 600 {file} (--tokens)")
            lines = stream.read(100_000).splitlines()
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror} (--tokens)") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{file} is not UTF-8 text (--tokens)") from error
    tokens = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if not match or match["role"] not in get_args(Role):
            raise RequestError(
                f"{file}, line {number} must read `ROLE OWNER TOKEN`, with role read or run (--tokens)"
            )
        role: Role = "run" if match["role"] == "run" else "read"
        tokens.append((Principal(match["owner"], role), _long_enough(match["token"], f"{file}, line {number}")))
    return tokens


def _long_enough(token: str, where: str) -> str:
    if len(token) < SHORTEST:
        raise RequestError(f"the token of {where} is too short: it takes {SHORTEST} characters at least")
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
