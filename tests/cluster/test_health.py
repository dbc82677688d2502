"""A search whose Ray dies: one line with the command that continues it, at once."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.patience import PATIENCE_SECONDS
from tests.support.searches import SMALL
from tune_mentormix.cluster import health
from tune_mentormix.cluster.health import RayWatch, _Listener
from tune_mentormix.errors import FAILED
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.storage.journal import JOURNAL_FILE

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "POLL_SECONDS", 0.02)


def listening(patience: float = 0.0, port: int = 0) -> tuple[socket.socket, _Listener]:
    server = socket.create_server(("127.0.0.1", port))
    return server, _Listener("the head", "127.0.0.1", server.getsockname()[1], patience)


def watched(*listeners: _Listener) -> tuple[list[str], RayWatch]:
    lost: list[str] = []
    watch = RayWatch(list(listeners), lost.append)
    watch.start()
    return lost, watch


def test_a_process_that_listens_no_more_is_lost_and_told_of_once() -> None:
    server, listener = listening()
    lost, watch = watched(listener)
    time.sleep(0.1)
    assert lost == []
    server.close()
    watch.join(10)
    assert lost == ["the head has died, or was killed"]


def test_whoever_may_meet_a_ray_that_ends_waits_until_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOSS_SECONDS", 0.5)
    server, listener = listening()
    lost, watch = watched(listener)
    watch.await_loss()
    assert lost == []
    server.close()
    watch.await_loss()
    assert lost == ["the head has died, or was killed"]
    watch.stop()


def test_the_head_of_a_cluster_may_be_away_for_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.logger, "handlers", [caplog.handler])
    monkeypatch.setattr(health.logger, "propagate", False)
    server, listener = listening(patience=60.0)
    lost, watch = watched(listener)
    server.close()
    deadline = time.monotonic() + 30
    while not caplog.records:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    again, _ = listening(port=listener.port)
    while len(caplog.records) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    watch.stop()
    again.close()
    assert lost == []
    assert [record.getMessage() for record in caplog.records] == [
        "the head does not answer: waiting 1 min 0 s for it",
        "the head answers again",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_search_whose_ray_is_killed_ends_in_one_line_with_the_command_that_continues_it(
    tmp_path: Path, name: str
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("".join(f"{key}: {value}\n" for key, value in (SMALL | {"epochs": 500}).items()))
    arguments = ["search", "--config", str(settings), "--name", "birds", "--storage", str(tmp_path / "storage")]
    search = subprocess.Popen(
        [sys.executable, "run_search.py", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        journal = tmp_path / "storage" / "birds" / JOURNAL_FILE
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (journal.exists() and '"report"' in journal.read_text()):
            assert search.poll() is None, search.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        rays = psutil.Process(search.pid).children(recursive=True)
        (victim,) = [process for process in rays if process.name() == name]
        victim.kill()
        output, errors = search.communicate(timeout=PATIENCE_SECONDS)
    finally:
        search.kill()
    assert search.returncode == FAILED
    assert output == ""
    told = [line for line in errors.splitlines() if "best so far" not in line]
    assert len(told) == 1, errors
    assert "has died, or was killed" in told[0]
    assert told[0].endswith(f"run_search.py resume birds --storage {tmp_path / 'storage'}")
    experiment = read_experiment(tmp_path / "storage", "birds")
    assert (experiment.state(), experiment.ended) == ("interrupted", "ray_lost")
    _, left = psutil.wait_procs(rays, timeout=150)  # a raylet waits a minute for its head
    assert left == []
