"""Sends messages to people by Apprise, from a process of its own that outlives its parent.

A driver may be killed at any time; the sender reads of it as the end of its input, and says so. Addresses hold
passwords: they come from the environment or the server's configuration, go to the sender by its input, and stand in
no file, log or message.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import IO, Any, cast, get_args

from trainables.errors import shorten
from tune_mentormix.errors import RequestError
from tune_mentormix.results.news import Message, NewsKind

logger = logging.getLogger(__name__)

ADDRESSES = "TUNE_MENTORMIX_NOTIFY"  # environment variables, their values separated by white space
KINDS = "TUNE_MENTORMIX_NOTIFY_ON"
START_SECONDS = 60.0  # in which the sender has checked the addresses; a busy machine is slow
LAST_SECONDS = 10.0  # that the end of a search waits for the last message to be on its way


class Notifier:
    """Sends messages of these kinds; neither slows down what it tells of nor fails it."""

    def __init__(self, addresses: Iterable[str], kinds: Iterable[NewsKind], source: str) -> None:
        """Starts the sender. Raises RequestError, which names `source`, if an address is wrong."""
        if find_spec("apprise") is None:
            raise RequestError(f"{source} needs apprise: pip install 'tune-mentormix[notify]'")
        self._kinds, self._source = frozenset(kinds), source
        self._lock = threading.Lock()
        self._sender = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is not for it
        )
        self._write({"addresses": list(addresses)})
        answer: dict[str, Any] = {}
        reader = threading.Thread(target=lambda: answer.update(self._read_answer()), daemon=True)
        reader.start()
        reader.join(START_SECONDS)
        wrong = answer.get("wrong")
        if wrong is None:
            self._sender.kill()
            raise RequestError(f"the process that sends messages does not start ({source})")
        if wrong:
            self.close()
            known = "https://github.com/caronc/apprise lists what an address looks like"
            raise RequestError(f"{source}: Apprise does not understand address {', '.join(map(str, wrong))}; {known}")
        threading.Thread(target=self._log_failures, name="notifications", daemon=True).start()

    def send(self, message: Message) -> None:
        """Sends a message, if it is of a kind that is asked for; does not wait for it."""
        if message.kind in self._kinds:
            self._write({"send": message})

    def expect_end(self, if_lost: Message) -> None:
        """Names the message to send if this process ends without `close`."""
        if if_lost.kind in self._kinds:
            self._write({"if_lost": if_lost})

    def close(self) -> None:
        """Lets the sender end once it has sent everything, and waits a little for it."""
        self._write({"if_lost": None})
        with suppress(OSError):
            cast("IO[str]", self._sender.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            self._sender.wait(LAST_SECONDS)

    def _write(self, line: Mapping[str, Any]) -> None:
        stdin = cast("IO[str]", self._sender.stdin)
        with self._lock:
            try:
                stdin.write(json.dumps(line) + "\n")
                stdin.flush()
            except (OSError, ValueError):
                logger.warning("messages cannot be sent any more: their process ended (%s)", self._source)

    def _read_answer(self) -> dict[str, Any]:
        line = cast("IO[str]", self._sender.stdout).readline()
        return cast("dict[str, Any]", json.loads(line)) if line else {}

    def _log_failures(self) -> None:
        for line in cast("IO[str]", self._sender.stdout):
            logger.warning("a message could not be sent to all: %s (%s)", json.loads(line)["failed"], self._source)


def notifier_of_environment(environment: Mapping[str, str]) -> Notifier | None:
    """Starts the notifier that the environment asks for; None if it does not. Raises RequestError if it is wrong."""
    addresses = environment.get(ADDRESSES, "").split()
    if not addresses:
        return None
    kinds = environment.get(KINDS, "").split() or list(get_args(NewsKind))
    for kind in kinds:
        if kind not in get_args(NewsKind):
            allowed = ", ".join(get_args(NewsKind))
            raise RequestError(f"{KINDS} may hold {allowed}, separated by spaces, got {shorten(kind)}")
    return Notifier(addresses, cast("list[NewsKind]", kinds), ADDRESSES)


def main() -> None:
    """Sends what its input tells, line by line, and at its end what it was told to say if its parent is lost."""
    import apprise

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.disable()  # Apprise's log names addresses
    service, if_lost = apprise.Apprise(), None
    addresses = json.loads(sys.stdin.readline())["addresses"]
    _answer({"wrong": [place for place, address in enumerate(addresses, start=1) if not service.add(address)]})

    def send(kind: str, title: str, body: str) -> None:
        types = {"failed": apprise.NotifyType.FAILURE, "stalled": apprise.NotifyType.WARNING}
        if not service.notify(body, title, types.get(kind, apprise.NotifyType.INFO)):
            _answer({"failed": title})

    for line in sys.stdin:
        asked = json.loads(line)
        if_lost = asked.get("if_lost", if_lost)
        if "send" in asked:
            send(*asked["send"])
    if if_lost:
        send(*if_lost)


def _answer(line: Mapping[str, Any]) -> None:
    with suppress(OSError):  # the parent may be gone
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(0)  # no line about a parent that no longer reads
