"""The API and the pages show what the experiment directories hold."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from html import unescape
from pathlib import Path

import pytest

from tests.service.conftest import READ, RUN, Serve, Served, sign_in
from tests.support.patience import PATIENCE_SECONDS
from tests.support.simulated_search import SimulatedFailures, simulate_search
from tune_mentormix.cli.app import run
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.results.summary import search_status
from tune_mentormix.service import experiments, pages
from tune_mentormix.service.cached_experiment import CachedExperiment
from tune_mentormix.service.experiments import ExperimentCache
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.lease import Lease

HTML = {"Accept": "text/html"}


def test_the_list_holds_every_search_and_the_reason_why_one_cannot_be_read(served: Served) -> None:
    answer = served.get("/api/v1/experiments").json()
    assert [search["name"] for search in answer["experiments"]] == ["birds", "cut", "damaged"]
    assert [search["state"] for search in answer["experiments"]] == ["finished", "interrupted", "unreadable"]
    assert "damaged" in answer["experiments"][2]["error"]


def test_status_is_what_the_command_prints_as_json(served: Served) -> None:
    answer = served.get("/api/v1/experiments/birds").json()
    expected = json.loads(search_status(read_experiment(served.storage, "birds")).model_dump_json())
    assert {key: answer[key] for key in expected} == expected


def test_trials_come_sorted_filtered_and_in_pages(served: Served) -> None:
    path = "/api/v1/experiments/birds/trials"
    finished = served.get(f"{path}?state=finished&sort=val_accuracy&descending=true&limit=3").json()
    accuracies = [trial["val_accuracy"] for trial in finished["trials"]]
    assert len(accuracies) == 3
    assert accuracies == sorted(accuracies, reverse=True)
    assert {trial["state"] for trial in finished["trials"]} == {"finished"}
    assert served.get(f"{path}?offset=10").json()["trials"][0]["trial"] == 10
    assert served.get(f"{path}?at_least=0.99").json()["total"] == 0
    assert served.get(f"{path}?sort=nonsense").status_code == 404
    assert served.get(f"{path}/1").json()["error"] == "the loss became NaN"
    assert served.get(f"{path}/700").status_code == 404


def test_curves_and_best_are_those_of_the_journal(served: Served) -> None:
    experiment = read_experiment(served.storage, "birds")
    best = experiment.best()
    assert best is not None
    answer = served.get("/api/v1/experiments/birds/best").json()
    assert (answer["best"]["trial_id"], answer["labels"]) == (best.number, "noisy")
    curves = served.get("/api/v1/experiments/birds/curves?limit=2").json()
    assert (curves["total"], len(curves["curves"])) == (12, 2)
    assert curves["curves"][0]["val_accuracy"] == list(experiment.trials[0].curve.values())


def test_what_is_appended_to_a_journal_is_seen_by_the_next_request(serve: Serve, tmp_path: Path) -> None:
    simulate_search(tmp_path, "grows", 5)
    journal = tmp_path / "grows" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:40]) + lines[40][:10])  # a truncated line, as while one is written
    served = serve(tmp_path)
    before = served.get("/api/v1/experiments/grows").json()["epochs_run"]
    with journal.open("a") as stream:
        stream.write(lines[40][10:] + "".join(lines[41:]))
    after = served.get("/api/v1/experiments/grows").json()
    assert before < after["epochs_run"] == read_experiment(tmp_path, "grows").epochs_run
    assert after["state"] == "finished"


def test_the_nodes_that_a_search_may_use_are_shown_while_it_runs(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate_search(tmp_path, "birds", 3, failures=SimulatedFailures({}, unfinished=(2,)))
    served = serve(tmp_path)
    shown = "nodes: 2, trials at once: 4, trials that wait for further nodes: 1"
    with (tmp_path / "birds" / JOURNAL_FILE).open("a") as journal:
        journal.write('{"time": 1.0, "event": "run_started"}\n')
        journal.write('{"time": 2.0, "event": "nodes", "nodes": 2, "room": 4, "waiting": 1}\n')
    sign_in(served.client, READ)
    with Lease(tmp_path / "birds").acquire():
        status = served.get("/api/v1/experiments/birds").json()
        assert status["nodes"] == {"nodes": 2, "room": 4, "waiting": 1}
        assert served.get("/api/v1/experiments").json()["experiments"][0]["nodes"] == status["nodes"]
        assert shown in served.client.get("/searches/birds").text
        assert run(["status", "birds", "--storage", str(tmp_path)]) == 0
    assert shown in capsys.readouterr().out
    assert served.get("/api/v1/experiments/birds").json()["nodes"] is None
    assert shown not in served.client.get("/searches/birds").text


def test_a_search_that_was_dropped_from_memory_does_not_stay_running_once_its_driver_has_died(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "MAX_REPORTS", 0)  # only the search that was read last stays in memory
    for name in ("birds", "cats"):
        simulate_search(tmp_path, name, 3, failures=SimulatedFailures({}, unfinished=(2,)))
    served = serve(tmp_path)

    def states() -> list[str]:
        return [search["state"] for search in served.get("/api/v1/experiments").json()["experiments"]]

    with Lease(tmp_path / "birds").acquire():
        with (tmp_path / "birds" / JOURNAL_FILE).open("a") as journal:  # so that it is read while its driver lives
            journal.write(
                '{"time": 1.0, "event": "report", "trial": 2, "attempt": 1, "epoch": 60, "val_accuracy": 0.5}\n'
            )
        assert states() == ["running", "interrupted"]
        served.get("/api/v1/experiments/cats")  # takes the place of the other in memory
        assert states() == ["running", "interrupted"]
    assert states() == ["interrupted", "interrupted"]


def test_requests_that_wait_for_a_read_share_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_search(tmp_path, "birds", 3)
    cache, reads, begun, go_on = ExperimentCache(tmp_path), [], threading.Event(), threading.Event()
    refresh = CachedExperiment.refresh

    def slow(cached: CachedExperiment) -> list[dict[str, object]]:
        reads.append(cached)
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return refresh(cached)

    monkeypatch.setattr(CachedExperiment, "refresh", slow)
    first = threading.Thread(target=cache.snapshot, args=("birds",))
    first.start()
    assert begun.wait(PATIENCE_SECONDS)
    later = [threading.Thread(target=cache.snapshot, args=("birds",)) for _ in range(8)]
    for thread in later:
        thread.start()
    time.sleep(0.2)  # all have asked, while the first read goes on
    go_on.set()
    for thread in (first, *later):
        thread.join(PATIENCE_SECONDS)
    assert len(reads) == 2
    cache.snapshot("birds")
    assert len(reads) == 3


def test_a_new_search_under_an_old_name_is_read_from_its_beginning(serve: Serve, tmp_path: Path) -> None:
    simulate_search(tmp_path / "first", "same", 6)
    (tmp_path / "first").rename(tmp_path / "storage")
    served = serve(tmp_path / "storage")
    assert served.get("/api/v1/experiments/same").json()["num_samples"] == 6
    simulate_search(tmp_path / "second", "same", 4)
    (tmp_path / "storage" / "same").rename(tmp_path / "old")
    (tmp_path / "second" / "same").rename(tmp_path / "storage" / "same")
    answer = served.get("/api/v1/experiments/same").json()
    assert (answer["num_samples"], sum(answer["trials"].values())) == (4, 4)


def test_pages_show_searches_and_one_search_without_scripts(served: Served) -> None:
    sign_in(served.client, READ)
    overview = served.client.get("/", headers=HTML).text
    assert 'href="/searches/birds"' in overview
    page = served.client.get("/searches/birds?state=failed", headers=HTML).text
    assert "the loss became NaN" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    assert '<path class="best"' in page
    assert "2 trials; accuracy on noisy validation labels" in page
    assert "Resume" not in page  # a reader changes nothing


def test_a_heading_sorts_and_keeps_the_filter_and_a_second_click_reverses(served: Served) -> None:
    sign_in(served.client, READ)

    def shown(query: str) -> tuple[list[int], dict[str, str]]:
        page = served.client.get(f"/searches/birds?{query}", headers=HTML)
        assert page.status_code == 200, query
        links = {
            label.rstrip(" ↑↓"): unescape(link)
            for link, label in re.findall(r'<a href="\?(.*?)">(.*?)</a>', page.text)
        }
        return [int(number) for number in re.findall(r'<th scope="row">(\d+)</th>', page.text)], links

    first, links = shown("state=finished")
    best_first, again = shown(links["accuracy"])
    worst_first, _ = shown(again["accuracy"])
    assert sorted(best_first) == first == sorted(worst_first) != best_first
    assert best_first[0] == worst_first[-1] == served.get("/api/v1/experiments/birds/best").json()["best"]["trial_id"]


def test_a_long_table_comes_in_pages(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROWS", 5)
    sign_in(served.client, READ)
    second = served.client.get("/searches/birds?page=2", headers=HTML).text
    assert "page 2 of 3" in second
    assert 'href="?page=1" rel="prev"' in second.replace("&amp;", "&").replace("sort=trial&", "")
    assert served.client.get("/searches/birds?page=3", headers=HTML).text.count('rel="next"') == 0


def test_a_runner_is_offered_what_fits_the_state(served: Served) -> None:
    sign_in(served.client, RUN)
    assert ">Extend<" in served.client.get("/searches/birds", headers=HTML).text
    assert ">Resume<" in served.client.get("/searches/cut", headers=HTML).text


def test_metrics_tell_searches_trials_and_the_best(served: Served) -> None:
    text = served.get("/metrics").text
    assert 'tune_mentormix_searches{state="finished"} 1.0' in text
    assert 'tune_mentormix_trials{search="birds",state="failed"} 2.0' in text
    assert 'tune_mentormix_best_val_accuracy{labels="noisy",search="birds"}' in text
    assert 'tune_mentormix_gpus_held{search="birds"} 0.0' in text


def test_jobs_and_logs_come_from_the_cluster(served: Served) -> None:
    assert served.get("/api/v1/jobs").json() == {"jobs": [], "trouble": None}
    assert served.get("/api/v1/experiments/birds/logs").status_code == 409


DAMAGED = {
    "journal.jsonl": [
        "[]\n",
        "null\n",
        '{"event": "report"}\n',
        '{"time": 1, "event": "proposed", "trial": 0, "config": null}\n',
        '{"time": 1, "event": "proposed", "trial": 0, "config": {}, "control": 7}\n'
        '{"time": 2, "event": "report", "trial": 0, "epoch": "x", "val_accuracy": 1}\n'
        '{"time": 3, "event": "report", "trial": 0, "epoch": 2, "val_accuracy": "y"}\n'
        '{"time": 4, "event": "failed", "trial": 0, "error": null}\n',
        '{"time": "late", "event": "run_started", "num_samples": "many"}\n',
    ],
    "search.yaml": [
        "[]\n",
        "format: 1\nprovenance: x\n",
        "format: 1\nnum_samples: many\n",
        "format: 99\n",
        "format: 1\nspace: 3\nnum_samples: -1\n",
        "a: &a [1]\nb: *a\n",
    ],
}


def test_a_search_that_cannot_be_read_is_listed_with_the_path_and_the_reason(
    serve: Serve, tmp_path: Path, simulated_storage: Path
) -> None:
    for name in ("good", "bad"):
        shutil.copytree(simulated_storage / "cut", tmp_path / name)
    journal = tmp_path / "bad" / "journal.jsonl"
    served = serve(tmp_path)
    sign_in(served.client, READ)
    assert served.client.get("/searches/bad", headers=HTML).status_code == 200, "and is in the cache from here on"
    journal.unlink()
    journal.mkdir()
    bad, good = served.get("/api/v1/experiments").json()["experiments"]
    reason = f"cannot read {journal}: Is a directory"
    assert (bad["state"], bad["error"]) == ("unreadable", reason)
    assert good["state"] == "interrupted"
    assert reason in unescape(served.client.get("/", headers=HTML).text)
    assert served.get("/metrics").status_code == 200
    for path in ("", "/trials", "/curves", "/best", "/events", "/report"):
        answer = served.get(f"/api/v1/experiments/bad{path}")
        assert (answer.status_code, answer.json()["detail"]) == (409, reason), path


def test_a_storage_that_cannot_be_read_is_not_an_empty_one(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("a file")
    served = serve(tmp_path / "storage")
    for path in ("/api/v1/experiments", "/metrics"):
        answer = served.get(path)
        assert answer.status_code == 503, path
        assert answer.json()["detail"] == f"cannot read {tmp_path / 'storage'}: Not a directory"


@pytest.mark.parametrize(("file", "text"), [(file, text) for file, texts in DAMAGED.items() for text in texts])
def test_a_damaged_search_takes_down_neither_the_list_nor_the_server(
    serve: Serve, tmp_path: Path, simulated_storage: Path, file: str, text: str
) -> None:
    for name in ("good", "bad"):
        shutil.copytree(simulated_storage / "cut", tmp_path / name)
    (tmp_path / "bad" / file).write_text(text)
    served = serve(tmp_path)
    listed = served.get("/api/v1/experiments").json()["experiments"]
    assert [search["name"] for search in listed] == ["bad", "good"]
    assert listed[1]["state"] == "interrupted"
    assert served.get("/metrics").status_code == 200
    sign_in(served.client, READ)
    for path in ("/", "/searches/bad", "/api/v1/experiments/bad/trials", "/api/v1/experiments/bad/curves"):
        assert served.client.get(path, headers=HTML).status_code < 500, path
