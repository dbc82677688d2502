"""The exit codes, the two errors that `cli` prints as one line on stderr, and parts of their messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from trainables.errors import shorten

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


class RequestError(Exception):
    """The request was wrong (exit code 2); the message names the setting, its value and what is allowed."""


def how_to_install(extra: str) -> str:
    """Returns the commands that install one of the project's extras, in a checkout and without one."""
    return f"make install EXTRAS={extra}, or without a checkout pip install 'tune-mentormix[{extra}]'"


class SearchFailedError(Exception):
    """The work failed (exit code 1); the message gives the first reason and how to continue."""


def unknown(kind: str, name: object, known: Iterable[str], forms: Iterable[str] = ()) -> str:
    """Returns a message like `unknown network 'resnt32'; did you mean 'resnet32'? (known: …)`.

    `forms` tell what other names look like, as `package.module:name` does.
    """
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {shorten(name)}{hint} (known: {', '.join([*names, *forms])})"
