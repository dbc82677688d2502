"""A cluster that is gone, or hangs, takes nothing but itself away: everything read comes from the storage."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.service.conftest import READ, Serve, sign_in
from tune_mentormix.cluster.jobs import Job, StateOf, stored_state
from tune_mentormix.cluster.submissions import record_submission
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.service import jobs as service_jobs
from tune_mentormix.service.admission import NotAllowedError
from tune_mentormix.service.experiments import ExperimentCache
from tune_mentormix.service.jobs import JobQueue, KnownJobs
from tune_mentormix.service.settings import ServerSettings

HTML = {"Accept": "text/html"}


def test_searches_are_listed_with_what_the_storage_knows_where_the_cluster_is_gone(
    serve: Serve, simulated_storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "results"
    shutil.copytree(simulated_storage / "cut", storage / "cut")
    for name in ("cut", "lost"):
        record_submission(storage, name, "http://head:8265", "search", SearchSettings(), {})
    served = serve(storage)

    def gone(state_of: StateOf = stored_state) -> Sequence[Job]:
        raise RequestError("no Ray cluster answers at http://head:8265")

    monkeypatch.setattr(served.jobs, "jobs", gone)
    answer = served.get("/api/v1/jobs").json()
    assert [(job["name"], job["state"]) for job in answer["jobs"]] == [
        ("cut", "interrupted"),
        ("lost", "interrupted"),
    ]
    assert "no Ray cluster answers" in answer["trouble"]
    sign_in(served.client, READ)
    page = served.client.get("/", headers=HTML).text
    assert "The cluster does not answer (no Ray cluster answers" in page
    assert "the cluster forgot it before it started" in page
    assert served.client.get("/searches/cut", headers=HTML).status_code == 200


def test_a_cluster_that_hangs_delays_a_page_once_and_a_little(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()
    ends = threading.Event()

    def hang(state_of: StateOf = stored_state) -> Sequence[Job]:
        ends.wait(30)
        return ()

    monkeypatch.setattr(served.jobs, "jobs", hang)
    monkeypatch.setattr(service_jobs, "ANSWER_SECONDS", 0.3)
    began = time.monotonic()
    for _ in range(5):
        assert served.get("/api/v1/jobs").json() == {"jobs": [], "trouble": "it takes long to answer"}
    assert time.monotonic() - began < 10
    ends.set()


def test_without_a_cluster_searches_can_be_looked_at_only(tmp_path: Path) -> None:
    jobs = JobQueue(None, ExperimentCache(tmp_path), ServerSettings())
    assert jobs.known() == KnownJobs([], None)
    for ask in (lambda: jobs.stop("a"), lambda: jobs.resume(SearchSettings(name="a"), {}), lambda: jobs.logs("a")):
        with pytest.raises(RequestError, match="has no cluster: set `address`") as refused:
            ask()
        assert not isinstance(refused.value, NotAllowedError)
