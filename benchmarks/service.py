"""Measures the cost of the service: the page of a search of 1,000 trials, a large body, and 1,000 listeners at once.

A real server in a separate process, on one simulated search of 1,000 trials of up to 100 epochs. Rows: seconds to
the first byte of its page and the bytes of it, at once after the start and later; seconds of other answers, and the
resident memory of the server, while 1,000 event streams are asked for, with room for 256 and for all; a 100 MB body.

    PYTHONPATH=. python benchmarks/service.py --json FILE
"""

from __future__ import annotations

import argparse
import http.client
import resource
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measurement import write_result

from tests.service.conftest import READ, RUN, bearer
from tests.support.served_process import ServedProcess, served_process
from tests.support.simulated_search import simulate_search

TRIALS, EPOCHS = 1_000, 100
LISTENERS, OPENERS = 1_000, 8
BODY = 100_000_000
PAGES, ANSWERS = 20, 40
PAGE = "/searches/large"

Opened = list[tuple[http.client.HTTPConnection, http.client.HTTPResponse]]


def measure(storage: Path, folder: Path) -> list[dict[str, Any]]:
    """All rows."""
    rows = []
    with served_process(storage, folder / "log") as served:
        first, size = _first_byte(served, PAGE)
        later = [_first_byte(served, PAGE)[0] for _ in range(PAGES)]
        rows.append({"what": "page, first after the start", "first_byte_seconds": round(first, 4), "bytes": size})
        times = {"first_byte_seconds": round(median(later), 4), "slowest": round(max(later), 4)}
        rows.append({"what": "page, later", **times, "bytes": size, "megabytes": _megabytes(served)})
        status, seconds = _send_body(served)
        answer = {"status": status, "seconds": round(seconds, 4), "megabytes": _megabytes(served)}
        rows.append({"what": f"a body of {BODY:,} bytes", **answer})
    for room in (256, LISTENERS):
        with served_process(storage, folder / "log", max_streams=room) as served:
            rows.append({"what": f"{LISTENERS} listeners, room for {room}", **_listeners(served)})
    return rows


def _first_byte(served: ServedProcess, path: str) -> tuple[float, int]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    began = time.perf_counter()
    connection.request("GET", path, headers=bearer(READ) | {"Accept": "text/html"})
    response = connection.getresponse()
    seconds = time.perf_counter() - began
    body = response.read()
    assert response.status == 200, response.status
    connection.close()
    return seconds, len(body)


def _send_body(served: ServedProcess) -> tuple[int, float]:
    """The answer comes before the body was sent: the server does not take it."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    began = time.perf_counter()
    connection.putrequest("POST", "/api/v1/experiments")
    for name, value in {**bearer(RUN), "Content-Length": str(BODY), "Content-Type": "application/json"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        for _ in range(BODY // 1_000_000):
            connection.send(bytes(1_000_000))
    except OSError:
        pass  # it closed the connection
    status = connection.getresponse().status
    return status, time.perf_counter() - began


def _listeners(served: ServedProcess) -> dict[str, Any]:
    opened: Opened = []

    def open_some() -> None:
        for _ in range(LISTENERS // OPENERS):
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
            connection.request("GET", "/api/v1/experiments/large/events", headers=bearer(READ))
            opened.append((connection, connection.getresponse()))

    openers = [threading.Thread(target=open_some) for _ in range(OPENERS)]
    for opener in openers:
        opener.start()
    during = []
    while any(opener.is_alive() for opener in openers):
        during.append(_first_byte(served, "/api/v1/experiments/large")[0])
        time.sleep(0.05)
    after = [_first_byte(served, "/api/v1/experiments/large")[0] for _ in range(ANSWERS)]
    statuses = [response.status for _, response in opened]
    figures = {
        "served": statuses.count(200),
        "refused": statuses.count(429),
        "slowest_answer_while_opening": round(max(during), 4),
        "answer_with_all_open": round(median(after), 4),
        "slowest": round(max(after), 4),
        "megabytes": _megabytes(served),
    }
    for connection, response in opened:
        response.close()
        connection.close()
    return figures


def _megabytes(served: ServedProcess) -> int:
    return round(served.resident_megabytes())


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8_192), most))  # the server inherits it
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder) / "results"
        experiment = simulate_search(storage, "large", TRIALS, epochs=EPOCHS, sampler="random")
        rows = [{"what": "the search", "trials": TRIALS, "reports": experiment.epochs_run}]
        rows += measure(storage, Path(folder))
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    if arguments.json:
        write_result(arguments.json, "service", torch.device("cpu"), PAGES, rows, {})


if __name__ == "__main__":
    main()
