"""A head that takes connections and never answers: what needs it is refused in time, everything else works."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service.conftest import Serve, Served
from tests.support.stand_in_head import StandInHead
from tune_mentormix.cluster import jobs_api
from tune_mentormix.cluster.jobs import ClusterJobs, Job, StateOf, stored_state
from tune_mentormix.cluster.submissions import latest_submission, record_submission, submitted_names
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.service import jobs as service_jobs

pytestmark = pytest.mark.slow

API = "/api/v1/experiments"
MORE_THAN_THREADS = 60  # that a server has for requests


@pytest.fixture
def served(serve: Serve, head: StandInHead, simulated_storage: Path, tmp_path: Path) -> Served:
    """A service that talked to its cluster before."""
    shutil.copytree(simulated_storage / "cut", tmp_path / "cut")
    submission = record_submission(tmp_path, "cut", head.address, "search", SearchSettings(), {})
    head.add(submission.submission_id, "RUNNING", {})
    served = serve(tmp_path, ClusterJobs(head.address, tmp_path))
    assert served.get("/api/v1/jobs").json()["trouble"] is None
    return served


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """Less of it."""
    monkeypatch.setattr(jobs_api, "REQUEST_SECONDS", 1.0)
    return 1.0


@pytest.mark.parametrize("path", ["cut/stop", "cut/resume", ""])
def test_a_change_is_refused_after_a_while_and_nothing_is_left_behind(
    path: str, served: Served, head: StandInHead, tmp_path: Path, patience: float
) -> None:
    head.hang()
    answer = served.post(f"{API}/{path}".rstrip("/"), {} if path else {"name": "new", "num_samples": 4})
    assert answer.status_code == 503
    assert answer.json()["detail"] == f"the Ray cluster at {head.address} (--dashboard) does not answer within 1 s"
    assert submitted_names(tmp_path) == ["cut"]
    head.go_on()
    assert served.post(f"{API}/cut/stop", {}).status_code == 202


def test_logs_that_do_not_arrive_leave_room_for_everything_else(
    served: Served, head: StandInHead, patience: float
) -> None:
    head.hang()
    with ThreadPoolExecutor(MORE_THAN_THREADS) as readers:
        asked = [readers.submit(served.get, f"{API}/cut/logs") for _ in range(MORE_THAN_THREADS)]
        began = time.monotonic()
        assert served.get(f"{API}/cut").status_code == 200
        assert served.get(API).status_code == 200
        assert time.monotonic() - began < patience
    answers = [answer.result() for answer in asked]
    assert {answer.status_code for answer in answers} == {503}
    said = [answer.json()["detail"] for answer in answers]
    busy = "the cluster is asked as much as it may be, or does not answer: try again later"
    assert 0 < MORE_THAN_THREADS - said.count(busy) <= 8
    head.go_on()
    assert served.get(f"{API}/cut/logs").text.startswith("the log of cut-")


def test_readers_of_logs_do_not_keep_a_search_from_being_stopped(
    served: Served, head: StandInHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    head.hang()
    with ThreadPoolExecutor(10) as readers:
        for _ in range(10):
            readers.submit(served.get, f"{API}/cut/logs")
        time.sleep(0.5)
        head.go_on()
        assert served.post(f"{API}/cut/stop", {}).status_code == 202
        head.end()


def test_what_the_cluster_may_have_taken_stays_recorded(
    served: Served, head: StandInHead, tmp_path: Path, patience: float
) -> None:
    head.takes_jobs.clear()
    answer = served.post(API, {"name": "new", "num_samples": 4})
    assert answer.status_code == 503
    assert "does not answer within 1 s" in answer.json()["detail"]
    assert "a moment ago" in served.post(API, {"name": "new", "num_samples": 4}).json()["detail"]
    head.takes_jobs.set()
    recorded = latest_submission(tmp_path, "new")
    assert recorded is not None
    deadline = time.monotonic() + 10
    while recorded.submission_id not in head.jobs and time.monotonic() < deadline:
        time.sleep(0.05)
    assert served.post(f"{API}/new/stop", {}).status_code == 202


def test_pages_show_the_cluster_again_once_it_answers_although_a_question_was_lost(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    never = threading.Event()
    listed = served.jobs.jobs

    def hang(state_of: StateOf = stored_state) -> Sequence[Job]:
        never.wait(30)
        return ()

    monkeypatch.setattr(service_jobs, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(service_jobs, "LOST_SECONDS", 1.0)
    monkeypatch.setattr(served.jobs, "jobs", hang)
    assert served.get("/api/v1/jobs").json()["trouble"] == "it takes long to answer"
    monkeypatch.setattr(served.jobs, "jobs", listed)
    assert served.get("/api/v1/jobs").json()["trouble"] == "it takes long to answer"
    time.sleep(1.0)
    assert served.get("/api/v1/jobs").json()["trouble"] is None
    served.post(API, {"name": "new", "num_samples": 4})
    assert [job["name"] for job in served.get("/api/v1/jobs").json()["jobs"]] == ["new"]
    never.set()
    time.sleep(0.2)
    assert [job["name"] for job in served.get("/api/v1/jobs").json()["jobs"]] == ["new"], "not the answer of before"
