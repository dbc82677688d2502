"""How a command ends: its exit codes, the two errors that `cli` turns into one line on stderr, and how to install."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


class RequestError(Exception):
    """The request was wrong (exit code 2): the message names the setting, its value and what is allowed."""


def how_to_install(extra: str) -> str:
    """What adds one of the project's extras: where there is a checkout, and where the package came without one."""
    return f"make install EXTRAS={extra}, or without a checkout pip install 'tune-mentormix[{extra}]'"


class TakenOverError(OSError):
    """Another process writes the same journal: this one must stop, whatever it still has to write."""

    def __init__(self) -> None:
        super().__init__(None, "another process runs this experiment now; this one was cut off for too long")

    def __str__(self) -> str:
        return str(self.strerror)


class SearchFailedError(Exception):
    """The work itself failed (exit code 1): the message gives the first reason and the way on."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """`unknown network 'resnt32'; did you mean 'resnet32'? (known: …)`."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})"
