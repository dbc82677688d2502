"""Addresses where no cluster answers, and how many trials fit on a cluster; none of these tests starts Ray."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tune_mentormix.cluster import resources
from tune_mentormix.cluster.connection import check_reachable, connection
from tune_mentormix.cluster.resources import check_resources, decide_gpus, trials_that_fit
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import FAILED, WRONG_REQUEST, RequestError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Bound by this test and not listening, so nothing else can answer there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_port_where_nothing_listens_is_refused_at_once(closed_port: int, scheme: str) -> None:
    began = time.monotonic()
    with pytest.raises(RequestError, match=r"no Ray cluster answers at .* refused; is `ray start --head` running"):
        check_reachable(f"{scheme}127.0.0.1:{closed_port}")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("nowhere.invalid:6379", "no Ray cluster answers at 'nowhere.invalid:6379'"),
        ("127.0.0.1:port", "address must be auto, HOST:PORT or ray://HOST:PORT"),
        ("127.0.0.1:123456", "address must be auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_is_one_line(address: str, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint) as raised:
        check_reachable(address)
    assert "\n" not in str(raised.value)


def test_a_port_that_listens_is_left_to_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_reachable(f"127.0.0.1:{server.getsockname()[1]}")
    check_reachable("auto")


@pytest.mark.slow
def test_a_search_at_such_an_address_ends_with_one_line_and_creates_nothing(closed_port: int, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, REPOSITORY / "run_search.py", "search", "--ray-address", f"127.0.0.1:{closed_port}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == WRONG_REQUEST
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "no Ray cluster answers" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_search_that_cannot_start_ray_ends_with_one_line_and_creates_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, REPOSITORY / "run_search.py", "search"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "RAY_TMPDIR": os.devnull},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == FAILED
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "Ray cannot start on this machine: Not a directory; try again" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_on_a_busy_machine_ray_is_started_once_more_and_what_had_started_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def slow_at_first(**_: object) -> None:
        started.append(subprocess.Popen(["sleep", "60"]))
        if len(started) == 1:
            raise Exception("The current node timed out during startup. This could happen because …")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", slow_at_first)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    try:
        with connection(SearchSettings(), verbose=True):
            assert [process.poll() is None for process in started] == [False, True]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert "trying once more" in caplog.text


def nodes_with(*nodes: dict[str, float]) -> Callable[[], list[dict[str, Any]]]:
    """Returns what stands in for `live_nodes`."""
    return lambda: [{"Resources": node} for node in nodes]


def test_a_trial_that_no_single_node_has_room_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        resources,
        "live_nodes",
        lambda: [
            {"Resources": node}
            for node in (
                {"CPU": 64.0},
                {"CPU": 4.0, "GPU": 1.0},
            )
        ],
    )
    check_resources(SearchSettings(cpus_per_trial=4, gpus_per_trial=1))
    with pytest.raises(RequestError, match="no single node has CPUs × 8 and GPUs × 1 for a trial"):
        check_resources(SearchSettings(cpus_per_trial=8, gpus_per_trial=1))


def test_a_device_decides_how_many_gpus_a_trial_takes_and_cuda_needs_a_node_with_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        resources, "live_nodes", lambda: [{"Resources": node} for node in ({"CPU": 4.0, "GPU": 2.0},)]
    )
    taken = [decide_gpus(SearchSettings(device=device)).gpus() for device in ("auto", "cuda", "cpu", "mps")]
    assert taken == [1, 1, 0, 0]
    monkeypatch.setattr(resources, "live_nodes", nodes_with({"CPU": 4.0}))
    assert decide_gpus(SearchSettings()).gpus() == 0
    with pytest.raises(RequestError, match=r"^device cuda needs a GPU, which no node has: .* \(--device\)$"):
        check_resources(decide_gpus(SearchSettings(device="cuda")))


def test_nodes_that_come_later_make_room_for_more_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 2.0}]
    monkeypatch.setattr(resources, "live_nodes", lambda: [{"Resources": node} for node in nodes])
    any_number, one = SearchSettings(), SearchSettings(max_concurrent=1)
    assert (trials_that_fit(any_number), trials_that_fit(one)) == (2, 1)
    nodes.append({"CPU": 4.0})
    assert (trials_that_fit(any_number), trials_that_fit(one)) == (6, 1)
