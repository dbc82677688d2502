"""A confirmation is started by page, API or command, bounded like a search; its progress and verdict are shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import ADMIN, READ, RUN, RUNNER, STRANGER, Serve, Served, sign_in
from tests.support.searches import copy_of
from tests.support.simulated_search import simulate_search
from tests.support.stand_in_head import StandInHead
from tune_mentormix.cli.app import run
from tune_mentormix.cluster.jobs import ClusterJobs
from tune_mentormix.cluster.submissions import latest_submission
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.storage.lease import Lease

CONFIRM = "/api/v1/experiments/birds/confirm"


def test_its_owner_confirms_a_search(served: Served) -> None:
    assert served.post(CONFIRM, {"top_k": 2, "seeds": 3, "time_budget": "1h"}).status_code == 202
    bounded = {"time_budget": 3600.0, "max_concurrent": 8}
    assert served.jobs.changes == [("birds", {"top_k": 2, "seeds": 3} | bounded)]
    for token in (READ, STRANGER):
        assert served.post(CONFIRM, {}, token).status_code == 403


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": 1}, "seeds must be a whole number in [2, 10,000], got 1"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"ablate": "maybe"}, "ablate must be true or false"),
        (
            {"num_samples": 9},
            "num_samples cannot be set for a confirmation; these may: top_k, seeds, ablate, time_budget",
        ),
        ({"storage": "/elsewhere"}, "storage cannot be set for a confirmation"),
        ({"max_concurrent": 99}, "max_concurrent must be at most 8 here, got 99"),
        ({"top_k": 30, "seeds": 10}, "320 trainings are more than the 100 allowed here: set top_k or seeds lower"),
    ],
)
def test_what_is_not_allowed_is_refused_in_words(served: Served, wrong: dict[str, Any], said: str) -> None:
    refused = served.post(CONFIRM, wrong)
    assert refused.status_code == 422
    assert said in refused.json()["detail"]
    assert not served.jobs.changes


def test_the_page_has_a_form_for_it_and_no_two_fields_share_an_id(served: Served) -> None:
    csrf = sign_in(served.client, RUN)
    page = served.client.get("/searches/birds").text
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    sent = served.client.post("/searches/birds/confirm", data={"csrf": csrf, "seeds": "4"}, follow_redirects=False)
    assert sent.headers["location"] == "/searches/birds?flash=confirming"
    assert served.jobs.changes[0][1]["seeds"] == 4


def test_progress_and_verdict_are_shown(serve: Serve, confirmed: Experiment) -> None:
    served = serve(confirmed.path.parent)
    shown = served.get("/api/v1/experiments").json()["experiments"][0]["confirmation"]
    assert shown["state"] == "finished"
    assert shown["runs"] == shown["planned"] > 0
    assert shown["verdicts"]
    page = served.get(f"/searches/{confirmed.name}").text
    assert "trainings ended" in page
    assert "<h2>Confirmation</h2>" in page


def test_a_confirmation_runs_until_the_test_set_was_opened(
    serve: Serve, confirmed: Experiment, tmp_path: Path
) -> None:
    storage = copy_of(confirmed, tmp_path)
    folder = storage / confirmed.name / "confirmation"
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    (folder / "journal.jsonl").write_text("".join(lines[:-1]))  # all have trained, and the driver has not ended
    served = serve(storage)
    with Lease(folder).acquire():
        shown = served.get("/api/v1/experiments").json()["experiments"][0]["confirmation"]
        assert (shown["state"], shown["runs"]) == ("running", shown["planned"])
        sign_in(served.client, READ)
        page = served.client.get(f"/searches/{confirmed.name}").text
    assert "now the test set is opened" in page
    assert "It has no verdict" not in page


def test_a_running_confirmation_can_be_stopped_and_the_search_not_be_resumed(
    serve: Serve, confirmed: Experiment, tmp_path: Path
) -> None:
    storage = copy_of(confirmed, tmp_path)
    folder = storage / confirmed.name / "confirmation"
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    (folder / "journal.jsonl").write_text("".join(lines[: len(lines) // 2]))
    served = serve(storage)
    sign_in(served.client, ADMIN)
    with Lease(folder).acquire():
        page = served.client.get(f"/searches/{confirmed.name}").text
    assert f'action="/searches/{confirmed.name}/stop"' in page
    assert "Ends the confirmation cleanly" in page
    assert f'action="/searches/{confirmed.name}/resume"' not in page
    assert f'action="/searches/{confirmed.name}/confirm"' not in page


def test_a_damaged_confirmation_hides_no_search(serve: Serve, tmp_path: Path) -> None:
    simulate_search(tmp_path, "birds", 4, owner=RUNNER)
    folder = tmp_path / "birds" / "confirmation"
    folder.mkdir()
    (folder / "confirmation.yaml").write_text("top_k: many\n")
    shown = serve(tmp_path).get("/api/v1/experiments/birds").json()
    assert (shown["state"], shown["confirmation"]["state"]) == ("finished", "unreadable")
    assert "confirmation.yaml" in shown["confirmation"]["error"]


def test_the_command_sends_a_job(head: StandInHead, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_search(tmp_path, "birds", 4, owner="ann")
    there = ["--storage", str(tmp_path), "--dashboard", head.address]
    assert run(["confirm", "birds", "--submit", "--seeds", "3", "--max-concurrent", "2", *there]) == 0
    assert f"birds was sent to {head.address} as job birds-" in capsys.readouterr().out
    submission = latest_submission(tmp_path, "birds")
    assert submission is not None
    assert (submission.action, submission.owner) == ("confirm", "ann")
    assert submission.settings == {"seeds": 3, "max_concurrent": 2}
    (job,) = ClusterJobs(head.address, tmp_path).jobs()
    assert (job.action, job.state) == ("confirm", "pending")


def test_submit_confirms_too(head: StandInHead, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_search(tmp_path, "birds", 4)
    there = ["--storage", str(tmp_path), "--dashboard", head.address]
    assert run(["submit", "--confirm", "birds", "--trials", "9", *there]) == 2
    assert "--trials cannot be given with --confirm" in capsys.readouterr().err
    assert run(["submit", "--confirm", "birds", *there]) == 0
    assert run(["submit", "--confirm", "none", *there]) == 2
    assert run(["confirm", "birds", "--submit", "--seeds", "1", *there]) == 2
    assert "seeds must be a whole number of at least 2" in capsys.readouterr().err
