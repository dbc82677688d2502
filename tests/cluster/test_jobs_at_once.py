"""Submissions of one name that meet, or that the cluster does not know yet: one search runs, and can be stopped."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from tests.support.simulated_search import SimulatedFailures, simulate_search
from tests.support.stand_in_head import StandInHead
from tune_mentormix.cluster import jobs as jobs_module
from tune_mentormix.cluster.jobs import ClusterJobs
from tune_mentormix.cluster.submissions import delete_submission, latest_submission, record_submission
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment

BIRDS = SearchSettings(name="birds", noise=0.4)


@pytest.fixture(autouse=True)
def no_other_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def jobs(head: StandInHead, tmp_path: Path) -> ClusterJobs:
    return ClusterJobs(head.address, tmp_path / "storage")


def interrupted_search(storage: Path, ended: float) -> Experiment:
    """One whose driver wrote last at a certain time."""
    experiment = simulate_search(storage, "birds", 4, epochs=6, failures=SimulatedFailures({}, unfinished=(3,)))
    with (storage / "birds" / "journal.jsonl").open("a") as stream:
        stream.write(json.dumps({"time": ended, "event": "run_ended", "reason": "interrupted"}) + "\n")
    return experiment


def test_a_search_on_its_way_to_the_cluster_is_not_sent_again(
    head: StandInHead, jobs: ClusterJobs, tmp_path: Path
) -> None:
    head.takes_jobs.clear()
    first = threading.Thread(target=jobs.submit, args=(BIRDS,))
    first.start()
    assert head.arrived.acquire(timeout=30)
    with pytest.raises(RequestError, match="birds was submitted a moment ago, and the cluster does not know it yet"):
        ClusterJobs(head.address, tmp_path / "storage").submit(BIRDS)
    head.takes_jobs.set()
    first.join(30)
    assert len(head.jobs) == 1
    with pytest.raises(RequestError, match="birds is submitted already, and runs"):
        jobs.submit(BIRDS)


def test_what_the_cluster_never_came_to_know_can_be_submitted_again_after_a_while(
    head: StandInHead, jobs: ClusterJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_submission(tmp_path / "storage", "birds", head.address, "search", BIRDS, {})
    with pytest.raises(RequestError, match="a moment ago"):
        jobs.submit(BIRDS)
    monkeypatch.setattr(jobs_module, "IN_FLIGHT_SECONDS", 0.0)
    jobs.submit(BIRDS)
    assert len(head.jobs) == 1


def test_a_search_that_ran_and_ended_is_gone_on_with_at_once_where_the_cluster_forgot_it(
    head: StandInHead, jobs: ClusterJobs, tmp_path: Path
) -> None:
    record_submission(tmp_path / "storage", "birds", head.address, "search", BIRDS, {})
    interrupted_search(tmp_path / "storage", ended=time.time())
    jobs.resume("birds", {})
    assert len(head.jobs) == 1
    head.jobs.clear()
    with pytest.raises(RequestError, match="a moment ago"):
        jobs.resume("birds", {})


def test_whatever_runs_of_a_name_is_stopped_although_a_later_job_of_it_failed(
    head: StandInHead, jobs: ClusterJobs, tmp_path: Path
) -> None:
    storage = tmp_path / "storage"
    metadata = {"experiment": "birds", "storage": str(storage)}
    for status in ("RUNNING", "PENDING", "FAILED"):
        submission = record_submission(storage, "birds", head.address, "search", SearchSettings(), {})
        head.add(submission.submission_id, status, metadata)
    head.add("other-1", "RUNNING", metadata | {"experiment": "other"})
    head.add("birds-elsewhere", "RUNNING", metadata | {"storage": "/elsewhere"})
    alive = list(head.jobs)[:2]
    with pytest.raises(RequestError, match="birds is submitted already, and runs"):
        jobs.resume("birds", {})
    jobs.stop("birds")
    assert head.stopped == alive
    with pytest.raises(RequestError, match="birds does not run as a job"):
        jobs.stop("birds")


def test_a_number_that_was_given_back_stops_no_later_submission(tmp_path: Path) -> None:
    first, second = (record_submission(tmp_path, "birds", "http://a:1", "search", BIRDS, {}) for _ in range(2))
    delete_submission(tmp_path, first)
    third = record_submission(tmp_path, "birds", "http://a:1", "search", BIRDS, {})
    assert (second.number, third.number) == (2, 3)
    assert latest_submission(tmp_path, "birds") == third
