"""A web server on this machine that keeps what is posted to it, for addresses such as json://127.0.0.1:PORT/."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.patience import PATIENCE_SECONDS


class Listener:
    """Keeps what is posted to its address, in order."""

    def __init__(self, status: int) -> None:
        received = self.received = []  # type: list[dict[str, Any]]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Prints nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://user:hunter2@127.0.0.1:{self.server.server_port}/"

    def titles(self, count: int) -> list[str]:
        """The titles of all messages, once there are so many."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.received) < count:
            assert time.monotonic() < deadline, self.received
            time.sleep(0.05)
        return [message["title"] for message in self.received]


@contextmanager
def listening(status: int = 200) -> Iterator[Listener]:
    """A listener that answers with this status."""
    listener = Listener(status)
    threading.Thread(target=listener.server.serve_forever, daemon=True).start()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()
