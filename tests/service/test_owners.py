"""A search belongs to who started it: it is changed by its owner and by admins only, and quotas count by owner."""

from __future__ import annotations

import getpass
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import ADMIN, READ, RUN, RUNNER, STRANGER, Serve, Served, sign_in
from tests.support.simulated_search import simulate_search
from tests.support.stand_in_head import StandInHead
from tune_mentormix.cli.app import run
from tune_mentormix.cluster.jobs import ClusterJobs
from tune_mentormix.cluster.submissions import latest_submission
from tune_mentormix.config.settings import SearchSettings, default_owner
from tune_mentormix.service.auth import Principal

SEARCHES = "/api/v1/experiments"
NOT_YOURS = "birds belongs to runner: this takes the token of runner, or one with the role admin"


@pytest.mark.parametrize(
    ("role", "own", "others", "unknown"),
    [("read", False, False, False), ("run", True, False, False), ("admin", True, True, True)],
)
def test_what_a_role_may_change(role: str, own: bool, others: bool, unknown: bool) -> None:
    principal = Principal("ann", role)  # type: ignore[arg-type]
    assert [principal.may_change(owner) for owner in ("ann", "bob", None)] == [own, others, unknown]


def test_a_submitted_search_belongs_to_the_owner_of_the_token(served: Served) -> None:
    assert served.post(SEARCHES, {"name": "mine", "num_samples": 4}, STRANGER).status_code == 202
    assert served.jobs.submitted[0].owner == "stranger"
    for_another = served.post(SEARCHES, {"name": "x", "owner": RUNNER}, STRANGER)
    assert for_another.status_code == 422
    assert "owner is the server's to set" in for_another.json()["detail"]


def test_a_stranger_stops_and_resumes_nothing_and_an_admin_everything(served: Served) -> None:
    for change in ("stop", "resume"):
        refused = served.post(f"{SEARCHES}/birds/{change}", {}, STRANGER)
        assert (refused.status_code, refused.json()["detail"]) == (403, NOT_YOURS)
    assert not served.jobs.changes
    assert served.post(f"{SEARCHES}/birds/resume", {"num_samples": 20}, ADMIN).status_code == 202
    assert served.post(f"{SEARCHES}/birds/stop", {}, ADMIN).status_code == 202


def test_a_search_that_has_not_started_has_its_owner_too(served: Served) -> None:
    assert served.post(SEARCHES, {"name": "new", "num_samples": 4}).status_code == 202
    assert served.post(f"{SEARCHES}/new/stop", {}, STRANGER).status_code == 403
    assert served.post(f"{SEARCHES}/new/stop", {}).status_code == 202


def test_a_search_of_an_earlier_version_is_an_admins(serve: Serve, tmp_path: Path) -> None:
    simulate_search(tmp_path, "old", 4)
    served = serve(tmp_path)
    refused = served.post(f"{SEARCHES}/old/resume", {"num_samples": 6})
    assert refused.status_code == 403
    assert refused.json()["detail"] == "old has no owner on record: this takes a token with the role admin"
    assert served.post(f"{SEARCHES}/old/resume", {"num_samples": 6}, ADMIN).status_code == 202


def test_lists_show_and_filter_by_owner(serve: Serve, simulated_storage: Path, tmp_path: Path) -> None:
    shutil.copytree(simulated_storage / "birds", tmp_path / "birds")
    simulate_search(tmp_path, "fish", 4, owner="ann")
    served = serve(tmp_path)
    assert {each["name"]: each["owner"] for each in served.get(SEARCHES).json()["experiments"]} == {
        "birds": RUNNER,
        "fish": "ann",
    }
    of_ann = served.get(f"{SEARCHES}?owner=ann").json()
    assert (of_ann["total"], of_ann["experiments"][0]["name"]) == (1, "fish")
    page = served.get("/?owner=ann").text
    assert "/searches/fish" in page
    assert "/searches/birds" not in page
    assert "There is no search of nobody." in served.get("/?owner=nobody").text


def forms(client: TestClient, token: str) -> str:
    sign_in(client, token)
    return client.get("/searches/birds").text


def test_the_page_offers_changes_to_those_who_may_make_them(serve: Serve) -> None:
    for token, offers in ((READ, False), (STRANGER, False), (RUN, True), (ADMIN, True)):
        assert ('action="/searches/birds/resume"' in forms(serve().client, token)) == offers, token


def test_quotas_count_by_owner(serve: Serve, head: StandInHead, tmp_path: Path) -> None:
    cluster = ClusterJobs(head.address, tmp_path)
    served = serve(tmp_path, cluster, max_jobs_per_owner=1, max_gpus_per_owner=4)
    four = {"num_samples": 8, "max_concurrent": 4}
    assert served.post(SEARCHES, {"name": "a"} | four).status_code == 202
    refused = served.post(SEARCHES, {"name": "b"} | four).json()["detail"]
    assert refused == "1 of at most 1 searches of runner run or wait already: stop one first"
    assert served.post(SEARCHES, {"name": "b"} | four, STRANGER).status_code == 202  # has a quota of its own
    too_many = served.post(SEARCHES, {"name": "c", "num_samples": 8, "max_concurrent": 5}, ADMIN).json()["detail"]
    assert too_many == (
        "this search may take 5 GPUs at once and the others of boss take 0, of at most 4: set max_concurrent lower, "
        "or stop one first"
    )
    submission = latest_submission(tmp_path, "a")
    assert submission is not None
    assert (submission.owner, submission.gpus) == (RUNNER, 4.0)


def test_the_most_gpus_of_a_search() -> None:
    def most(**settings: object) -> float:
        return SearchSettings.model_validate(settings).most_gpus()

    assert most(num_samples=6) == 6
    assert most(num_samples=6, max_concurrent=2) == 2
    assert most(num_samples=2, max_concurrent=8, gpus_per_trial=0.25) == 0.5
    assert most(num_samples=6, device="cpu") == 0


def test_a_search_from_the_command_line_belongs_to_its_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_owner() == getpass.getuser()
    monkeypatch.setattr(getpass, "getuser", lambda: "DOMAIN\\ann smith")
    assert default_owner() == "DOMAIN-ann-smith"

    def nameless() -> str:
        raise OSError("no username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert default_owner() is None

    for name, owner in (("birds", "ann"), ("fish", "bob")):
        simulate_search(tmp_path, name, 2, owner=owner)
    assert run(["list", "--storage", str(tmp_path), "--owner", "ann"]) == 0
    shown = capsys.readouterr().out
    assert "birds" in shown
    assert "fish" not in shown


def test_an_owner_is_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "--owner", "a b", "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith("error: owner: must be up to 64 letters, digits and '._@+-'")
