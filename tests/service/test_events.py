"""Progress as server-sent events: shared among listeners, bounded in number, and given up with their listener."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from pathlib import Path

from tests.service.conftest import READ, bearer
from tests.support.served_process import ServedProcess, served_process


def _open(served: ServedProcess, path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request("GET", path, headers=bearer(READ))
    return connection, connection.getresponse()


def _next_event(response: http.client.HTTPResponse) -> dict[str, object]:
    while True:
        line = response.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            event: dict[str, object] = json.loads(line.removeprefix(b"data: "))
            return event


def _streams(served: ServedProcess) -> float:
    lines = served.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("tune_mentormix_event_streams ")))


def test_listeners_hear_of_what_is_appended_and_leave_no_stream_behind(
    simulated_storage: Path, tmp_path: Path
) -> None:
    shutil.copytree(simulated_storage / "cut", tmp_path / "results" / "cut")
    journal = tmp_path / "results" / "cut" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:100]))
    with served_process(tmp_path / "results", tmp_path / "log") as served:
        opened = [_open(served, "/api/v1/experiments/cut/events") for _ in range(3)]
        opened.append(_open(served, "/api/v1/events"))
        before = [_next_event(response) for _, response in opened]
        assert all(response.headers["Content-Type"].startswith("text/event-stream") for _, response in opened)
        assert _streams(served) == 4
        with journal.open("a") as stream:
            stream.write("".join(lines[100:]))
        after = [_next_event(response) for _, response in opened]
        for old, new in zip(before[:3], after[:3], strict=True):
            assert new["epochs_run"] > old["epochs_run"]  # type: ignore[operator]
        assert after[3]["experiments"]["cut"] == after[0]  # type: ignore[index]
        for connection, response in opened:
            response.close()
            connection.close()
        deadline = time.monotonic() + 10
        while _streams(served) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert _streams(served) == 0
        missing = _open(served, "/api/v1/experiments/nothing/events")[1]
        assert missing.status == 404


def test_more_streams_than_there_is_room_for_are_refused_and_the_server_continues(
    simulated_storage: Path, tmp_path: Path
) -> None:
    with served_process(simulated_storage, tmp_path / "log") as served:
        opened: list[tuple[http.client.HTTPConnection, http.client.HTTPResponse]] = []

        def open_some() -> None:
            opened.extend(_open(served, "/api/v1/experiments/birds/events") for _ in range(75))

        openers = [threading.Thread(target=open_some) for _ in range(4)]
        for opener in openers:
            opener.start()
        for opener in openers:
            opener.join()
        statuses = [response.status for _, response in opened]
        assert (statuses.count(200), statuses.count(429)) == (256, 44)
        assert served.get("/api/v1/experiments/birds").status_code == 200
        for connection, response in opened:
            response.close()
            connection.close()
