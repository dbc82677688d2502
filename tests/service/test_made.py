"""Files that jobs make of a search: who may have them made, how far they are, and what is handed out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.service.conftest import READ, RUN, RUNNER, STRANGER, Serve, Served, sign_in
from tests.support.simulated_search import simulate_search
from tune_mentormix.results.made_files import MadeFiles, made_folder, write_made

MADE = "/api/v1/experiments/birds/made"
CLUSTER = "http://127.0.0.1:8265"


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    simulate_search(tmp_path, "birds", 3, owner=RUNNER)
    return serve(tmp_path, address=CLUSTER)


def test_its_owner_has_files_made(served: Served) -> None:
    assert served.post(f"{MADE}/refit", {"time_budget": "1h"}).status_code == 202
    changed = {"kind": "refit", "time_budget": 3600.0, "max_concurrent": 8}
    assert served.jobs.changes == [("birds", changed)]
    for token in (READ, STRANGER):
        assert served.post(f"{MADE}/labels", {}, token).status_code == 403
    for wrong, body in (("pickle", {}), ("refit", {"storage": "/x"}), ("refit", {"num_samples": 3})):
        assert served.post(f"{MADE}/{wrong}", body).status_code == 422
    assert len(served.jobs.changes) == 1


def test_it_tells_how_far_they_are_and_hands_them_out(served: Served) -> None:
    assert served.get(MADE).json() == {"made": []}
    assert served.get(f"{MADE}/refit").status_code == 404
    assert served.get("/api/v1/experiments/none/made").status_code == 404
    write_made(served.storage, "birds", MadeFiles(kind="refit", state="running", note="epoch 3 of 60", began=1.0))
    [left] = served.get(MADE).json()["made"]
    assert (left["kind"], left["state"]) == ("refit", "interrupted")  # no job makes it
    served.post(f"{MADE}/refit", {})
    served.jobs.known["birds"] = replace(served.jobs.known["birds"], state="running")
    assert served.get(MADE).json()["made"][0]["state"] == "running"
    sign_in(served.client, READ)
    assert "epoch 3 of 60" in served.client.get("/searches/birds").text
    (made_folder(served.storage, "birds") / "refit.tar").write_bytes(b"archive")
    write_made(served.storage, "birds", MadeFiles(kind="refit", state="finished", node="gpu-1", began=1.0, ended=2.0))
    page = served.client.get("/searches/birds").text
    assert "on gpu-1" in page
    assert 'href="/searches/birds/made/refit"' in page
    answer = served.client.get("/searches/birds/made/refit")
    assert (answer.content, answer.headers["content-type"]) == (b"archive", "application/octet-stream")
    assert answer.headers["content-disposition"] == 'attachment; filename="birds-refit.tar"'


def test_the_page_has_a_button_for_each(served: Served) -> None:
    csrf = sign_in(served.client, RUN)
    page = served.client.get("/searches/birds").text
    assert f"run as jobs of {CLUSTER}" in page
    for kind in ("refit", "labels", "verify"):
        assert f'action="/searches/birds/made/{kind}"' in page
        sent = served.client.post(f"/searches/birds/made/{kind}", data={"csrf": csrf}, follow_redirects=False)
        assert sent.headers["location"] == "/searches/birds?flash=making"
    assert [changes["kind"] for _, changes in served.jobs.changes] == ["refit", "labels", "verify"]
    assert served.client.post("/searches/birds/made/refit", data={}).status_code == 403


def test_a_record_that_cannot_be_read_is_named(served: Served) -> None:
    folder = made_folder(served.storage, "birds")
    folder.mkdir()
    (folder / "labels.yaml").write_bytes(b"kind: labels\nstate: 7\n")
    answer = served.get(MADE)
    assert answer.status_code == 409
    assert "labels.yaml cannot be read: state" in answer.json()["detail"]
