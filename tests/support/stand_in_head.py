"""What Ray's Jobs API answers, from memory: for moments that no real head can be held in. It runs nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ray


class StandInHead:
    """The jobs that were sent, as Ray lists them; it can be made to hang."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.stopped: list[str] = []
        self.takes_jobs = threading.Event()  # while not set, a job that was sent waits
        self.takes_jobs.set()
        self.seconds = 0.0  # that taking a job takes
        self.arrived = threading.Semaphore(0)  # jobs that were sent, taken or not yet
        self.address = ""
        self._hangs = False
        self._ended = threading.Event()

    def hang(self) -> None:
        """Takes connections from now on, and answers none of them, ever."""
        self._hangs = True

    def go_on(self) -> None:
        """Answers what is asked from now on."""
        self._hangs = False

    def end(self) -> None:
        """Lets go of everyone who still waits."""
        self._ended.set()
        self.takes_jobs.set()

    def add(self, submission_id: str, status: str, metadata: dict[str, str]) -> None:
        """Has one more job in its list."""
        self.jobs[submission_id] = {
            "type": "SUBMISSION",
            "submission_id": submission_id,
            "status": status,
            "entrypoint": "python",
            "metadata": metadata,
            "start_time": round(time.time() * 1000),
        }

    def answer(self, method: str, path: str, sent: dict[str, Any]) -> Any:
        """To one request, as JSON."""
        if self._hangs:
            self._ended.wait()
        if path == "/api/authentication_mode":
            return {"authentication_mode": "disabled"}
        if path == "/api/version":
            return {"ray_version": ray.__version__, "version": "4"}
        if path.startswith("/api/packages/"):
            return {}
        *_, job, action = path.split("/")
        if method == "GET":
            return {"logs": f"the log of {job}\n"} if action == "logs" else list(self.jobs.values())
        if action == "stop":
            self.stopped.append(job)
            self.jobs[job]["status"] = "STOPPED"
            return {"stopped": True}
        self.arrived.release()
        self.takes_jobs.wait()
        time.sleep(self.seconds)
        self.add(sent["submission_id"], "PENDING", sent["metadata"])
        return {"job_id": sent["submission_id"], "submission_id": sent["submission_id"]}


@contextmanager
def stand_in_head() -> Iterator[StandInHead]:
    """Answers on the loopback interface, open to everyone there."""
    head = StandInHead()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = json.dumps(head.answer(self.command, self.path, json.loads(body or "{}"))).encode()
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # the client waits no more

        do_POST = do_GET  # noqa: N815  # the name that is looked for

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 100
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    head.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield head
    finally:
        head.end()
        server.shutdown()
        server.server_close()
