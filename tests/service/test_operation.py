"""What someone who runs the service sees: a light process, logs a program can read, and hostile requests survived."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.service.conftest import READ, RUN, bearer
from tests.support.served_process import served_process


def test_the_service_imports_neither_torch_nor_ray_nor_optuna() -> None:
    code = "import sys, tune_mentormix.service.server; print({'torch', 'ray', 'optuna'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_the_log_has_one_json_object_a_line_with_experiment_and_trial(
    simulated_storage: Path, tmp_path: Path
) -> None:
    with served_process(simulated_storage, tmp_path / "log") as served:
        answer = served.get("/api/v1/experiments/birds/trials/1")
        assert answer.status_code == 200
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    request = next(line for line in lines if line.get("request_id") == answer.headers["X-Request-Id"])
    assert (request["experiment"], request["trial"], request["who"]) == ("birds", "1", "reader")
    assert (request["status"], request["method"]) == (200, "GET")


def test_the_command_logs_json_alone(simulated_storage: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tune_mentormix", "serve", "--storage", str(simulated_storage), "--port", port]
    environment = os.environ | {"TUNE_MENTORMIX_RUN_TOKEN": RUN, "HOME": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        messages: list[str] = []
        while not messages or "Uvicorn running" not in messages[-1]:
            messages.append(json.loads(process.stderr.readline())["message"])
        process.terminate()
        messages += [json.loads(line)["message"] for line in process.stderr]
    assert f"serving {simulated_storage} on http://127.0.0.1:{port}" in messages


def test_what_happens_to_a_search_is_logged_with_trial_and_node(simulated_storage: Path, tmp_path: Path) -> None:
    import shutil
    import time

    shutil.copytree(simulated_storage / "birds", tmp_path / "results" / "birds")
    journal = tmp_path / "results" / "birds" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    failed = next(number for number, line in enumerate(lines) if '"failed"' in line)
    journal.write_text("".join(lines[:failed]))
    lease = {
        "host": "worker-7",
        "pid": 1,
        "booted": 0,
        "process_started": 0,
        "renewed": time.time() + 60,
        "token": "x",
    }
    (tmp_path / "results" / "birds" / "lease.json").write_text(json.dumps(lease))
    with served_process(tmp_path / "results", tmp_path / "log") as served:
        assert served.get("/api/v1/experiments/birds").json()["state"] == "running"
        with journal.open("a") as stream:
            stream.write(json.dumps(json.loads(lines[failed]) | {"node": "worker-9"}) + "\n")
            stream.write(json.dumps({"time": time.time(), "event": "run_ended", "reason": "interrupted"}) + "\n")
        served.get("/api/v1/experiments/birds")
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    failure = next(line for line in logged if line.get("event") == "failed")
    assert (failure["experiment"], failure["trial"], failure["node"]) == ("birds", 1, "worker-9")
    assert next(line for line in logged if line.get("event") == "run_ended")["node"] == "worker-7", "the driver's"
    assert (failure["level"], failure["reason"]) == ("warning", "the loss became NaN")


def test_raw_paths_that_clients_would_tidy_up_lead_nowhere(simulated_storage: Path, tmp_path: Path) -> None:
    with served_process(simulated_storage, tmp_path / "log") as served:
        for path in (
            "/api/v1/experiments/../../etc/passwd",
            "/searches/..",
            "/searches/%2e%2e/%2e%2e/etc/passwd",
            "/assets/../server.py",
            "/assets/..%2fserver.py",
            "/static/../../__init__.py",
            "//etc/passwd",
            "/api/v1/experiments/birds%00/trials",
            "/api/v1/experiments/" + "x" * 10_000,
            "/searches/birds/trials/../../../../etc",
        ):
            assert _raw(served.port, f"GET {path} HTTP/1.1") in range(400, 500), path
        big = f"POST /api/v1/experiments HTTP/1.1\r\nContent-Length: {100 * 2**20}"
        assert _raw(served.port, big) == 413
        before = served.resident_megabytes()
        assert _raw(served.port, "POST /login HTTP/1.1\r\nTransfer-Encoding: chunked", 100) in (413, None)
        assert served.resident_megabytes() < before + 20
        assert served.get("/healthz").status_code == 200


def _raw(port: int, head: str, chunks: int = 0) -> int | None:
    """The status of a request sent as it stands, with so many megabytes behind it; None if it was cut off."""
    token = bearer(RUN)["Authorization"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        try:
            for _ in range(chunks):
                connection.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        except OSError:
            pass  # it answered before all was sent
        try:
            answer = connection.recv(1_000)
        except OSError:
            return None
    return int(answer.split()[1]) if answer else None


@pytest.mark.usefixtures("hangup_ends")
@pytest.mark.parametrize(("number", "cut"), [(signal.SIGHUP, False), (signal.SIGTERM, True)])
def test_the_service_ends_in_order_when_its_terminal_is_closed_and_serves_on_without_its_output(
    number: signal.Signals, cut: bool, simulated_storage: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["-m", "tune_mentormix", "serve", "--storage", str(simulated_storage), "--port", str(port)]
    environment = os.environ | {"TUNE_MENTORMIX_READ_TOKEN": READ}
    service = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True, env=environment)
    assert service.stderr is not None
    printed = service.stderr.readline()
    while "Uvicorn running" not in printed:
        printed = service.stderr.readline()
        assert printed, "the service ended"
    if cut:
        service.stderr.close()  # as by `2>&1 | head`
    for _ in range(3):
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/experiments", headers=bearer(READ), timeout=30)
        assert answer.status_code == 200
    service.send_signal(number)
    assert service.wait(30) == -signal.SIGTERM, "uvicorn's way to end, after everything was closed"
    if not cut:
        assert "Finished server process" in service.stderr.read()
