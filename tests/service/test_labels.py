"""Suspicious labels in the service: a page of images, a table to download, and rows through the API."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import pytest
from httpx2 import Response

from tests.service.conftest import READ, Serve, Served, sign_in
from tests.support.searches import copy_of
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE
from tune_mentormix.experiment.experiment import Experiment

pytestmark = pytest.mark.slow
HTML = {"Accept": "text/html"}
LABELS = "/api/v1/experiments/done/labels"


@pytest.fixture
def served(serve: Serve, finished_search: Experiment, tmp_path: Path) -> Served:
    """A service on a search of 300 digits."""
    return serve(copy_of(finished_search, tmp_path))


def made(served: Served, path: str) -> Response:
    """Asks with the token that may read until it is made, as a client does."""
    deadline = time.monotonic() + 120
    while (response := served.get(path)).status_code == 202 and time.monotonic() < deadline:
        pass
    return response


def test_the_table_is_the_one_of_the_command_and_its_rows_come_by_class_and_in_pages(
    served: Served, finished_search: Experiment, tmp_path: Path
) -> None:
    table = made(served, f"{LABELS}.csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert 'filename="done-labels.csv"' in table.headers["content-disposition"]
    out = tmp_path / "by command.csv"
    assert run(["labels", "done", "--storage", str(served.storage), "--out", str(out)]) == DONE
    assert table.content == out.read_bytes()

    rows = list(csv.DictReader(io.StringIO(table.text)))
    page = served.get(f"{LABELS}?limit=5&offset=3").json()
    assert page["total"] == len(rows) == 300
    assert [label["rank"] for label in page["labels"]] == [4, 5, 6, 7, 8]
    first = page["labels"][0]
    assert {name: str(value) for name, value in first.items() if name in ("image", "given", "suggested")} == {
        name: rows[3][name] for name in ("image", "given", "suggested")
    }
    assert first["out_of_fold"] == (rows[3]["out_of_fold"] == "true")
    assert first["score"] == float(rows[3]["score"])
    threes = served.get(f"{LABELS}?given=3&limit=1000").json()
    assert [label["image"] for label in threes["labels"]] == [row["image"] for row in rows if row["given"] == "3"]
    assert served.get(f"{LABELS}?given=no such class").json() == {"total": 0, "labels": []}
    assert sorted(path.name for path in (served.storage / "done").iterdir()) == sorted(
        path.name for path in finished_search.path.iterdir()
    ), "nothing is written into the experiment"


def test_the_page_may_run_nothing_links_to_the_table_and_back(served: Served) -> None:
    made(served, LABELS)
    sign_in(served.client, READ)

    page = served.client.get("/searches/done/labels", headers=HTML)

    assert page.status_code == 200
    assert "script" not in page.headers["Content-Security-Policy"].replace("default-src 'none'", "")
    assert "Which labels are wrong?" in page.text
    assert '<a href="labels.csv">' in page.text
    assert '<a href="/searches/done">Back to the search</a>' in page.text
    assert served.client.get("/searches/done/labels.csv").content == made(served, f"{LABELS}.csv").content
    assert "/searches/done/labels" in served.client.get("/searches/done", headers=HTML).text


def test_a_search_without_a_finished_trial_has_no_list_and_says_why(
    serve: Serve, finished_search: Experiment, tmp_path: Path
) -> None:
    storage = copy_of(finished_search, tmp_path)
    journal = storage / "done" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"event":"finished"' not in line))
    served = serve(storage)

    response = made(served, LABELS)

    assert response.status_code == 409
    assert "has no trial that ran to the end yet" in response.json()["detail"]
    sign_in(served.client, READ)
    assert "/searches/done/labels" not in served.client.get("/searches/done", headers=HTML).text
