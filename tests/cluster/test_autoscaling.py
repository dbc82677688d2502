"""Searches on a cluster whose autoscaler starts nodes for them, and whose nodes are taken away."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.autoscaling_cluster import AutoscalingCluster
from tests.support.jobs_cluster import REPOSITORY
from tests.support.patience import PATIENCE_SECONDS
from tune_mentormix.experiment.events import Event, NodesChanged, Proposed, Report, read_events

pytestmark = pytest.mark.cluster
SMALL = ["--gpus-per-trial", "1", "--max-images", "400", "--checkpoint-every", "20"]


@pytest.fixture
def cluster() -> Iterator[AutoscalingCluster]:
    cluster = AutoscalingCluster(max_workers=3)
    try:
        yield cluster
    finally:
        cluster.close()


def started(cluster: AutoscalingCluster, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "run_search.py", *command],
        cwd=REPOSITORY,
        env=cluster.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def events(folder: Path) -> list[Event]:
    return list(read_events(folder / "journal.jsonl"))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.5)


def node_counts(folder: Path) -> list[int]:
    """Returns how many nodes trials could use, one number for each change."""
    if not (folder / "journal.jsonl").is_file():
        return []
    return [event.nodes for event in events(folder) if isinstance(event, NodesChanged)]


def epochs_trained(folder: Path) -> int:
    return sum(isinstance(event, Report) for event in events(folder))


def trained(folder: Path) -> set[int]:
    """Returns the trials that have trained an epoch."""
    return {event.trial for event in events(folder) if isinstance(event, Report)}


def repeated_epochs(folder: Path) -> dict[int, int]:
    """Returns how many epochs of each trial were trained more than once."""
    seen: set[tuple[int, int]] = set()
    repeated: dict[int, int] = {}
    for event in events(folder):
        if isinstance(event, Report):
            if (event.trial, event.epoch) in seen:
                repeated[event.trial] = repeated.get(event.trial, 0) + 1
            seen.add((event.trial, event.epoch))
    return repeated


@pytest.mark.parametrize("as_job", [False, True], ids=["joined", "submitted"])
def test_a_search_uses_nodes_that_come_and_goes_on_without_those_that_are_lost(
    cluster: AutoscalingCluster, tmp_path: Path, as_job: bool
) -> None:
    folder = tmp_path / "grow"
    options = ["--name", "grow", "--storage", str(tmp_path), "--epochs", "600", "--trials", "8", *SMALL]
    if as_job:
        sent = cluster.run("submit", *options)
        assert sent.returncode == 0, sent.stderr
    else:
        search = started(cluster, "search", *options, "--ray-address", cluster.ray_address)
    wait_until(lambda: 3 in node_counts(folder) and trained(folder) == {0, 1, 2})
    first, second, _ = cluster.workers()
    with cluster.sold_out():
        cluster.kill_worker(first)
        cluster.kill_worker(second)
        wait_until(lambda: 1 in (counts := node_counts(folder))[counts.index(3) :])
    wait_until(lambda: node_counts(folder)[-1] == 3)
    if as_job:
        wait_until(lambda: '"run_ended"' in folder.joinpath("journal.jsonl").read_text())
    else:
        output, _ = search.communicate(timeout=PATIENCE_SECONDS)
        assert search.returncode == 0, output
        assert "waiting up to 10 min 0 s for a node with room for a trial (--wait-for-nodes)" in output
    attempts = {event.trial: event.attempt for event in events(folder) if isinstance(event, Proposed)}
    assert sum((attempt or 0) > 1 for attempt in attempts.values()) == 2  # one may have met the other lost node
    assert all(epochs <= 20 for epochs in repeated_epochs(folder).values())  # those since the last checkpoint
    status: dict[str, Any] = json.loads(cluster.run("status", "grow", "--storage", str(tmp_path), "--json").stdout)
    assert status["trials"]["finished"] + status["trials"]["stopped_early"] == 8


def test_a_trial_moves_off_a_node_that_is_about_to_go_and_repeats_no_epoch(
    cluster: AutoscalingCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "spot"
    options = ["--name", "spot", "--storage", str(tmp_path), "--epochs", "300", "--trials", "2", *SMALL]
    search = started(cluster, "search", *options, "--checkpoint-every", "300", "--ray-address", cluster.ray_address)
    wait_until(lambda: 2 in node_counts(folder) and epochs_trained(folder) > 20)
    drained = cluster.run(
        *("drain", "--in", "1m", "--ray-address", cluster.ray_address, "--node-id", cluster.worker_ids()[0])
    )
    assert (drained.returncode, drained.stdout) == (0, ""), drained.stderr
    assert "no trial runs there any more" in drained.stderr
    output, _ = search.communicate(timeout=PATIENCE_SECONDS)
    assert search.returncode == 0, output
    assert "which is about to go, and continues elsewhere" in output
    attempts = [event.attempt or 0 for event in events(folder) if isinstance(event, Proposed)]
    assert sorted(attempts) == [1, 1, 2]
    assert repeated_epochs(folder) == {}


def test_a_search_that_no_node_comes_for_says_so_after_its_time_and_creates_nothing(
    cluster: AutoscalingCluster, tmp_path: Path
) -> None:
    result = cluster.run(
        *("search", "--name", "never", "--storage", str(tmp_path), "--ray-address", cluster.ray_address),
        *("--cpus-per-trial", "8", "--wait-for-nodes", "3s"),
    )
    assert result.returncode == 2
    waiting, error = result.stderr.splitlines()
    assert waiting == (
        "no node of the cluster has CPUs for trials: waiting up to 3 s for a node with room for a trial "
        "(--wait-for-nodes)"
    )
    assert error.startswith("error: ")
    assert error.endswith("No such node came within 3 s (--wait-for-nodes)")
    assert list(tmp_path.iterdir()) == []
    stranger = cluster.run("drain", "--node-id", "f" * 56, "--ray-address", cluster.ray_address)
    assert (stranger.returncode, len(stranger.stderr.splitlines())) == (2, 1)
    assert "node_id must be the ID of a live node of the cluster" in stranger.stderr
