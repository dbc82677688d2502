"""Deleting and cleaning up through the service: by whom, with the name typed again, and not while anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.service.conftest import ADMIN, READ, RUN, RUNNER, STRANGER, Serve, Served, bearer, sign_in
from tests.support.simulated_search import simulate_search
from tune_mentormix.service import jobs
from tune_mentormix.storage.lease import Lease

BIRDS = "/api/v1/experiments/birds"


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """A service on searches that a test may delete."""
    for name in ("birds", "cats"):
        simulate_search(tmp_path, name, 3, owner=RUNNER)
    checkpoint = tmp_path / "birds" / "runs" / "1" / "trial-0009" / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.pt").write_bytes(b"x" * 1000)
    return serve(tmp_path)


@pytest.mark.parametrize("token", [RUN, ADMIN])
def test_its_owner_and_an_admin_delete_a_search(served: Served, token: str) -> None:
    answer = served.client.delete(BIRDS, headers=bearer(token))
    assert (answer.status_code, answer.content) == (204, b"")
    assert not (served.storage / "birds").exists()
    assert served.get(BIRDS).status_code == 404
    assert [found["name"] for found in served.get("/api/v1/experiments").json()["experiments"]] == ["cats"]


@pytest.mark.parametrize("token", [READ, STRANGER])
@pytest.mark.parametrize("path", [BIRDS, f"{BIRDS}/clean"])
def test_nobody_else_does(served: Served, token: str, path: str) -> None:
    method = "POST" if path.endswith("clean") else "DELETE"
    assert served.client.request(method, path, headers=bearer(token)).status_code == 403
    assert (served.storage / "birds" / "runs" / "1" / "trial-0009").exists()


def test_cleaning_up_deletes_checkpoints_that_nothing_needs(served: Served) -> None:
    usage = served.post(f"{BIRDS}/clean", None).json()
    assert (usage["name"], usage["removable"], usage["checkpoints"]) == ("birds", 0, 0)
    assert not (served.storage / "birds" / "runs" / "1" / "trial-0009" / "checkpoint_000000").exists()
    assert served.get(BIRDS).json()["trials"]["finished"] == 3


def test_a_search_that_a_driver_or_a_job_holds_stays(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ENDING_SECONDS", 0.0)
    with Lease(served.storage / "birds").acquire():
        for answer in (served.client.delete(BIRDS, headers=bearer(RUN)), served.post(f"{BIRDS}/clean", None)):
            assert answer.status_code == 409
            assert answer.json()["detail"].startswith("nothing of birds is removed: ")
    served.post(f"{BIRDS}/resume", {"num_samples": 9})
    served.jobs.known["birds"] = replace(served.jobs.known["birds"], state="pending", alive=True)
    answer = served.client.delete(BIRDS, headers=bearer(RUN))
    assert answer.status_code == 409
    assert answer.json() == {"detail": "a job of birds runs or waits on the cluster: stop it first"}
    assert (served.storage / "birds").exists()


def test_a_deletion_waits_until_the_cluster_has_noticed_the_end_of_a_job(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.post(f"{BIRDS}/resume", {"num_samples": 9})
    ending = replace(served.jobs.known["birds"], state="finished", alive=True)
    answers = [[ending], [ending], [replace(ending, alive=False)]]
    monkeypatch.setattr(served.jobs, "jobs", lambda state_of: answers.pop(0) if len(answers) > 1 else answers[0])
    assert served.client.delete(BIRDS, headers=bearer(RUN)).status_code == 204
    assert answers == [[replace(ending, alive=False)]]
    assert not (served.storage / "birds").exists()


def test_the_page_deletes_only_what_was_named_again(served: Served) -> None:
    csrf = sign_in(served.client, RUN)
    page = served.client.get("/searches/birds").text
    assert "Type birds to delete it with all its files" in page
    for typed in ("", "cats", "Birds"):
        answer = served.client.post("/searches/birds/delete", data={"csrf": csrf, "name": typed})
        assert answer.status_code == 409 or answer.status_code == 422
        assert "to delete birds, type its name: nothing was deleted" in answer.text
    sent = {"csrf": csrf, "name": "birds"}
    answer = served.client.post("/searches/birds/delete", data=sent, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?flash=deleted")
    assert not (served.storage / "birds").exists()
    assert "The search was deleted." in served.client.get("/?flash=deleted").text
    assert served.client.post("/searches/cats/delete", data={"name": "cats"}).status_code == 403  # no CSRF token


def test_a_stranger_is_not_offered_to_delete(served: Served) -> None:
    csrf = sign_in(served.client, STRANGER)
    assert "Clean up or delete" not in served.client.get("/searches/birds").text
    sent = {"csrf": csrf, "name": "birds"}
    assert served.client.post("/searches/birds/delete", data=sent).status_code == 403
    assert served.client.post("/searches/birds/clean", data=sent).status_code == 403
    assert (served.storage / "birds").exists()


def test_searches_are_compared_on_a_page_and_by_the_api(served: Served) -> None:
    sign_in(served.client, READ)
    page = served.client.get("/compare?name=birds&name=cats")
    assert page.status_code == 200
    assert "Comparison of 2 searches" in page.text
    assert "equally accurate" in page.text or "points ahead" in page.text
    answer = served.get("/api/v1/comparison?name=birds&name=cats").json()
    assert [search["name"] for search in answer["searches"]] == ["birds", "cats"]


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 422), ("name=birds", 422), ("name=birds&name=../x", 422), ("name=birds&name=none", 404)],
)
def test_a_comparison_takes_two_searches_that_exist(served: Served, query: str, status: int) -> None:
    assert served.get(f"/api/v1/comparison?{query}").status_code == status
    assert served.get(f"/compare?{query}").status_code == status
