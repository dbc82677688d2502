"""Requests that come at once: one search is sent once, and no more run than the server allows."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from httpx2 import Response

from tests.service.conftest import Serve, Served
from tests.support.stand_in_head import StandInHead
from tune_mentormix.cluster.jobs import ClusterJobs

SUBMIT = "/api/v1/experiments"


def at_once(served: Served, names: list[str]) -> list[Response]:
    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(lambda name: served.post(SUBMIT, {"name": name, "num_samples": 4}), names))


def test_a_form_that_is_sent_twice_starts_one_search(serve: Serve, head: StandInHead, tmp_path: Path) -> None:
    head.seconds = 0.3
    answers = at_once(serve(tmp_path, ClusterJobs(head.address, tmp_path)), ["birds"] * 3)
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409]
    assert {answer.json()["detail"] for answer in answers if answer.status_code == 409} == {
        "birds is submitted already, and runs: stop it first, or choose another --name"
    }
    assert len(head.jobs) == 1


def test_no_more_searches_start_at_once_than_the_server_allows(
    serve: Serve, head: StandInHead, tmp_path: Path
) -> None:
    head.seconds = 0.2
    served = serve(tmp_path, ClusterJobs(head.address, tmp_path), max_jobs=2)
    answers = at_once(served, ["a", "b", "c", "d"])
    assert sorted(answer.status_code for answer in answers) == [202, 202, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert "2 of at most 2 searches run or wait already: stop one first" in refused.json()["detail"]
    assert len(head.jobs) == 2
    running = next(job["metadata"]["experiment"] for job in head.jobs.values())
    assert served.post(f"{SUBMIT}/{running}/stop", {}).status_code == 202
    assert served.post(SUBMIT, {"name": "e", "num_samples": 4}).status_code == 202


def test_a_resume_takes_a_place_as_a_new_search_does(
    serve: Serve, head: StandInHead, simulated_storage: Path, tmp_path: Path
) -> None:
    for name in ("birds", "cut"):
        shutil.copytree(simulated_storage / name, tmp_path / name)
    served = serve(tmp_path, ClusterJobs(head.address, tmp_path), max_jobs=1)
    assert served.post(f"{SUBMIT}/birds/resume", {"num_samples": 14}).status_code == 202
    for path, settings in ((f"{SUBMIT}/cut/resume", {}), (SUBMIT, {"name": "new", "num_samples": 4})):
        refused = served.post(path, settings)
        assert refused.status_code == 409
        assert "1 of at most 1 searches run or wait already" in refused.json()["detail"]
    assert len(head.jobs) == 1


def test_a_search_whose_job_is_ending_keeps_no_other_waiting(
    serve: Serve, head: StandInHead, simulated_storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(simulated_storage / "birds", tmp_path / "birds")
    served = serve(tmp_path, ClusterJobs(head.address, tmp_path))
    is_waiting, has_ended = threading.Event(), threading.Event()
    waits: list[str] = []
    await_ending = ClusterJobs.await_ending

    def wait(cluster: ClusterJobs, name: str) -> object:
        waits.append(name)
        if name == "birds":
            is_waiting.set()
            assert has_ended.wait(30)
        return await_ending(cluster, name)

    monkeypatch.setattr(ClusterJobs, "await_ending", wait)
    with ThreadPoolExecutor(1) as pool:
        resumed = pool.submit(served.post, f"{SUBMIT}/birds/resume", {"num_samples": 14})
        assert is_waiting.wait(30)
        assert served.post(SUBMIT, {"name": "cats", "num_samples": 4}).status_code == 202
        has_ended.set()
        assert resumed.result(30).status_code == 202
    assert waits.count("birds") == 1, "and not again while the others wait"
