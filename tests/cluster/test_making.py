"""A refit, the suspicious labels and the page to verify, made as jobs of a real cluster."""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs_cluster import JobsCluster
from tests.support.patience import PATIENCE_SECONDS
from tune_mentormix.results.made_files import MadeKind, read_made

pytestmark = pytest.mark.cluster
SEARCH = ["submit", "--name", "birds", "--epochs", "10", "--trials", "4", "--max-concurrent", "1"]
COMMANDS: dict[MadeKind, list[str]] = {
    "refit": ["export", "birds", "--refit"],
    "labels": ["labels", "birds"],
    "verify": ["verify", "birds"],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[JobsCluster]:
    cluster = JobsCluster(cpus=1)
    try:
        yield cluster
    finally:
        cluster.close()


def run(cluster: JobsCluster, storage: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return cluster.run(*command, "--storage", str(storage))


def job(cluster: JobsCluster, storage: Path) -> dict[str, Any]:
    [found] = json.loads(run(cluster, storage, "jobs", "--json").stdout)
    return dict(found)


def wait_for_end(cluster: JobsCluster, storage: Path) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := job(cluster, storage))["alive"]:
        assert time.monotonic() < deadline, found
        time.sleep(1)
    return found


def test_files_are_made_on_the_cluster_and_kept_with_the_search(cluster: JobsCluster, tmp_path: Path) -> None:
    sent = run(cluster, tmp_path, *SEARCH)
    assert sent.returncode == 0, sent.stderr
    assert wait_for_end(cluster, tmp_path)["state"] == "finished"
    for kind, command in COMMANDS.items():
        sent = run(cluster, tmp_path, *command, "--submit")
        assert sent.returncode == 0, sent.stderr
        ended = wait_for_end(cluster, tmp_path)
        assert (ended["state"], ended["action"]) == ("finished", kind), run(cluster, tmp_path, "logs", "birds").stdout
        made = read_made(tmp_path, "birds", kind)
        assert made is not None
        assert made.state == "finished"
    folder = tmp_path / "birds" / "made"
    with tarfile.open(folder / "refit.tar") as archive:
        names = archive.getnames()
    assert {"birds/best_config.yaml", "birds/model.safetensors"} <= set(names), names
    assert len((folder / "labels.csv").read_text().splitlines()) > 100
    assert "<html" in (folder / "labels.html").read_text()
    assert (folder / "verify.csv").is_file()
    assert (folder / "verify.html").is_file()
    refused = run(cluster, tmp_path, "labels", "birds", "--submit", "--out", "x.csv")
    assert refused.returncode == 2
    assert "--out cannot be given with --submit: leave it out" in refused.stderr
