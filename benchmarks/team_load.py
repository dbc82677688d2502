"""Load of a team on the service: 50 searches of 200 trials, 20 people who poll, 200 event streams; two checkouts.

The searches are simulated by the older checkout, which writes what both read; ten of them grow meanwhile. The two
checkouts serve the same storage in turns. Rows: median and 95th percentile, in seconds, of each kind of request. The
first request of everyone, which all send at once to a server that has just started, is counted apart. The last rows
are the most memory of each server.

    PYTHONPATH=. python benchmarks/team_load.py --before DIR [--turns 3] [--seconds 60] --json FILE
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import psutil
import torch
from measurement import write_result

SEARCHES, TRIALS, PEOPLE, STREAMS, GROWING = 50, 200, 20, 200, 10
TOKEN = "w" * 32
FIRST = "first request of each"
PAUSE = 2.0  # seconds between two requests of one person
KINDS = {
    "list page": "/",
    "search page": "/searches/{}",
    "API list": "/api/v1/experiments?limit=50",
    "API search": "/api/v1/experiments/{}",
    "API trials": "/api/v1/experiments/{}/trials",
}
SIMULATE = """
import sys
from pathlib import Path
try:
    from tests.support.simulated_search import SimulatedFailures, simulate_search
except ModuleNotFoundError:  # where 14c7981 had it
    from tests.tune_mentormix.simulated_search import SimulatedFailures, simulate_search
storage, trials = Path(sys.argv[1]), int(sys.argv[3])
for number in range(int(sys.argv[2])):
    unfinished = SimulatedFailures({}, unfinished=(trials - 1,))
    simulate_search(storage, f"search-{number:02d}", trials, 30, number, unfinished, sampler="random")
"""


@contextmanager
def serving(checkout: Path, storage: Path, log: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Serves the storage with a checkout's `serve`; yields the port and the process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    config = log.with_suffix(".yaml")
    config.write_text(f"storage: {storage}\nrequests_per_second: 1e6\nburst: 1000000\nmax_streams: 256\n")
    command = [sys.executable, "-m", "tune_mentormix", "serve", "--config", str(config), "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "TUNE_MENTORMIX_RUN_TOKEN": TOKEN}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=output, stderr=output)
    try:
        while True:
            assert process.poll() is None, log.read_text()[-2_000:]
            with suppress(OSError):
                get(port, "/healthz")
                break
            time.sleep(0.2)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def get(port: int, path: str) -> float:
    """Returns the seconds until an answer has arrived as a whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"})
    response = connection.getresponse()
    response.read()
    assert response.status == 200, (path, response.status)
    connection.close()
    return time.perf_counter() - began


def turn(port: int, process: psutil.Process, seconds: float) -> tuple[dict[str, list[float]], float]:
    """Returns the seconds of each request by kind, and the most memory in megabytes."""
    streams = []
    for number in range(STREAMS):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        where = "/api/v1/events" if number % 2 else f"/api/v1/experiments/search-{number % SEARCHES:02d}/events"
        connection.request("GET", where, headers={"Authorization": f"Bearer {TOKEN}"})
        streams.append((connection, connection.getresponse()))
        assert streams[-1][1].status == 200, streams[-1][1].status
    taken: dict[str, list[float]] = {kind: [] for kind in (*KINDS, FIRST)}
    end = time.monotonic() + seconds

    def poll(person: int) -> None:
        random, is_first = Random(person), True
        while time.monotonic() < end:
            kind = random.choice(list(KINDS))
            seconds = get(port, KINDS[kind].format(f"search-{random.randrange(SEARCHES):02d}"))
            taken[FIRST if is_first else kind].append(seconds)
            is_first = False
            time.sleep(PAUSE * random.uniform(0.5, 1.5))

    people = [threading.Thread(target=poll, args=(person,)) for person in range(PEOPLE)]
    for person in people:
        person.start()
    most = 0.0
    while any(person.is_alive() for person in people):
        most = max(most, process.memory_info().rss / 2**20)
        time.sleep(0.2)
    for connection, response in streams:
        response.close()
        connection.close()
    return taken, most


def grow(storage: Path, stopped: threading.Event) -> None:
    """Appends an epoch of the last trial to the journal of a search, five times a second."""
    epoch = 0
    while not stopped.wait(0.2 * GROWING):
        epoch += 1
        for number in range(GROWING):
            report = {"event": "report", "trial": TRIALS - 1, "attempt": 1, "node": "n", "epoch": epoch}
            line = json.dumps({"time": time.time(), **report, "val_accuracy": 0.5}) + "\n"
            with (storage / f"search-{number:02d}" / "journal.jsonl").open("a") as journal:
                journal.write(line)


def percentile(values: list[float], share: float) -> float:
    """Returns the value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Measure in turns, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an earlier commit")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.absolute(), "after": Path(__file__).parents[1]}
    taken: dict[tuple[str, str], list[float]] = {}
    memory: dict[str, list[float]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder) / "results"
        sizes = [str(storage), str(SEARCHES), str(TRIALS)]
        environment = os.environ | {"PYTHONPATH": str(checkouts["before"])}
        subprocess.run([sys.executable, "-c", SIMULATE, *sizes], check=True, env=environment, cwd=checkouts["before"])
        stopped = threading.Event()
        threading.Thread(target=grow, args=(storage, stopped), daemon=True).start()
        for number in range(arguments.turns):
            for name in list(checkouts)[:: 1 if number % 2 == 0 else -1]:
                with serving(checkouts[name], storage, Path(folder) / "log") as (port, process):
                    figures, most = turn(port, process, arguments.seconds)
                memory[name].append(most)
                for kind, values in figures.items():
                    taken.setdefault((name, kind), []).extend(values)
                print(f"turn {number + 1}, {name}: {sum(map(len, figures.values()))} requests", flush=True)
        stopped.set()
    rows: list[dict[str, Any]] = [
        {
            "checkout": name,
            "what": kind,
            "n": len(values),
            "median_seconds": round(median(values), 4),
            "p95_seconds": round(percentile(values, 0.95), 4),
        }
        for (name, kind), values in taken.items()
    ]
    rows += [{"checkout": name, "what": "memory", "megabytes": round(max(most))} for name, most in memory.items()]
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    slow = {key: percentile(values, 0.95) for key, values in taken.items()}
    ratios = {f"p95_after_over_before/{kind}": slow["after", kind] / slow["before", kind] for kind in (*KINDS, FIRST)}
    ratios["memory_after_over_before"] = max(memory["after"]) / max(memory["before"])
    print(ratios)
    if arguments.json:
        write_result(arguments.json, "team_load", torch.device("cpu"), arguments.turns, rows, ratios)


if __name__ == "__main__":
    main()
