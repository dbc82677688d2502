"""Searches as jobs of a real cluster on the loopback interface, in token mode, from the command line."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs_cluster import JobsCluster
from tests.support.patience import PATIENCE_SECONDS
from tune_mentormix.cluster.submissions import submitted_names
from tune_mentormix.experiment.experiment import SEARCH_FILE, read_experiment
from tune_mentormix.results.confirmation import read_confirmation

SMALL = ["--epochs", "120", "--trials", "3", "--max-concurrent", "1"]
SMALL += ["--set", "max_images=300", "--set", "checkpoint_every=10"]

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[JobsCluster]:
    cluster = JobsCluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Named so that a shell would do something, were it not quoted."""
    return tmp_path_factory.mktemp("jobs") / "it's; touch pwned; $(touch pwned) &"


def asked(cluster: JobsCluster, storage: Path, *command: str, **environment: str) -> str:
    """What a command printed that must succeed."""
    done = cluster.run(*command, "--storage", str(storage), **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused command prints."""
    assert done.returncode == 2, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def jobs_of(cluster: JobsCluster, storage: Path) -> dict[str, dict[str, Any]]:
    return {job["name"]: job for job in json.loads(asked(cluster, storage, "jobs", "--json"))}


def epochs_run(storage: Path, name: str) -> int:
    there = (storage / name / SEARCH_FILE).is_file()
    return read_experiment(storage, name).epochs_run if there else 0


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_a_stopped_search_resumes_after_the_head_was_restarted_and_nothing_is_lost(
    cluster: JobsCluster, storage: Path
) -> None:
    named = ("birds", "--storage", str(storage))
    assert f"birds was sent to {cluster.address}" in asked(cluster, storage, "submit", "--name", "birds", *SMALL)
    assert "birds is submitted already" in refused(cluster.run("submit", "--name", *named))
    wait_until(lambda: epochs_run(storage, "birds") >= 5)
    assert "birds is stopped" in cluster.run("stop", *named).stderr
    before = read_experiment(storage, "birds")
    assert (before.ended, before.state()) == ("interrupted", "interrupted")
    assert "it is interrupted" in refused(cluster.run("stop", *named))
    assert "exists already; choose another --name, or resume it: resume birds --submit" in refused(
        cluster.run("submit", "--name", *named)
    )

    cluster.kill()
    alone = cluster.run("jobs", "--json", "--storage", str(storage))
    assert [(job["name"], job["state"]) for job in json.loads(alone.stdout)] == [("birds", "interrupted")]
    assert "no Ray cluster answers" in alone.stderr
    assert "birds: interrupted" in asked(cluster, storage, "status", "birds")
    assert "no Ray cluster answers" in refused(cluster.run("resume", *named, "--submit"))

    cluster.start()
    assert "remembers no job of birds" in refused(cluster.run("logs", *named))
    asked(cluster, storage, "resume", "birds", "--submit", "--trials", "4")
    assert "finished of 4" in asked(cluster, storage, "logs", "birds", "--follow")
    after = read_experiment(storage, "birds")
    assert (after.state(), after.runs, len(after.trials)) == ("finished", 2, 4)
    for number, trial in before.trials.items():
        assert after.trials[number].curve | trial.curve == after.trials[number].curve
    assert jobs_of(cluster, storage)["birds"]["state"] == "finished"
    assert not [path for path in (storage.parent, Path.cwd()) if (path / "pwned").exists()]


def test_a_search_whose_driver_cannot_begin_reports_why(cluster: JobsCluster, storage: Path) -> None:
    asked(cluster, storage, "submit", "--name", "cats", "--dataset", "arrays", "--data-dir", "/nowhere.npz")
    wait_until(lambda: jobs_of(cluster, storage)["cats"]["state"] != "pending")
    job = jobs_of(cluster, storage)["cats"]
    assert job["state"] == "failed"
    assert "/nowhere.npz" in job["message"]
    assert not (storage / "cats").exists()


@pytest.mark.parametrize("changes", [{"RAY_AUTH_TOKEN": "wrong"}, {"RAY_AUTH_MODE": "disabled"}])
def test_a_wrong_token_and_none_are_refused_in_one_line(
    cluster: JobsCluster, storage: Path, changes: dict[str, str]
) -> None:
    done = cluster.run("submit", "--name", "nobody", "--storage", str(storage), **changes)
    assert "refuses the token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in refused(done)
    assert "nobody" not in submitted_names(storage)


def test_a_search_is_confirmed_as_a_job(cluster: JobsCluster, storage: Path) -> None:
    tiny = ("--epochs", "4", "--trials", "3", "--set", "max_images=300")
    asked(cluster, storage, "submit", "fish", *tiny)
    wait_until(lambda: jobs_of(cluster, storage)["fish"]["state"] == "finished")
    asked(cluster, storage, "confirm", "fish", "--submit", "--top-k", "1", "--seeds", "2")
    wait_until(lambda: jobs_of(cluster, storage)["fish"]["state"] == "finished")
    assert jobs_of(cluster, storage)["fish"]["action"] == "confirm"
    confirmation = read_confirmation(read_experiment(storage, "fish"))
    assert confirmation is not None
    assert confirmation.test_evaluation is not None
    assert "winner" in asked(cluster, storage, "logs", "fish")
