"""Reports and exports: made on demand, in a process of their own."""

from __future__ import annotations

import asyncio
import errno
import io
import shutil
import tarfile
import threading
import time
from pathlib import Path

import pytest
from httpx2 import Response

from tests.service.conftest import RUN, Serve, Served, sign_in
from tests.support.searches import copy_of, folder_of
from tests.support.simulated_search import simulate_search
from tests.support.verifiable_search import RIGHT, made_up_search, right_labels
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.report.verify_page import write_verify_files
from tune_mentormix.results.verified_labels import record_answers
from tune_mentormix.service import artifacts
from tune_mentormix.service.experiments import ExperimentCache, ResultsVersion

pytestmark = pytest.mark.slow
FIRST, SECOND = ResultsVersion((1,)), ResultsVersion((2,))  # of what is stored


def made(served: Served, name: str, kind: str) -> Response:
    """Asks until it is made, as a client does."""
    deadline = time.monotonic() + 120
    while True:
        answer = served.get(f"/api/v1/experiments/{name}/{kind}")
        if answer.status_code != 202:
            return answer
        assert time.monotonic() < deadline, f"the {kind} of {name} is not made in time"


def test_the_report_is_one_page_that_may_run_nothing(served: Served) -> None:
    answer = made(served, "birds", "report")
    assert answer.status_code == 200
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "<h1>" in answer.text
    again = made(served, "birds", "report")
    assert again.text == answer.text


def test_the_export_is_an_archive_with_the_best_configuration(served: Served) -> None:
    answer = made(served, "birds", "export")
    assert answer.status_code == 200
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert "birds/best_config.yaml" in archive.getnames()


def test_an_export_of_a_search_without_results_is_refused_in_the_commands_words(serve: Serve, tmp_path: Path) -> None:
    simulate_search(tmp_path, "empty", 3)
    (tmp_path / "empty" / "journal.jsonl").write_text("")
    answer = made(serve(tmp_path), "empty", "export")
    assert answer.status_code == 409
    assert "no result to export yet" in answer.json()["detail"]


def test_a_slow_storage_delays_no_other_request(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    version = ExperimentCache.version

    def slow(library: ExperimentCache, name: str) -> ResultsVersion:
        begun.set()
        go_on.wait(3)
        return version(library, name)

    monkeypatch.setattr(ExperimentCache, "version", slow)
    sign_in(served.client, RUN)
    for path in ("/api/v1/experiments/nothing/report", "/searches/nothing/export"):
        begun.clear()
        go_on.clear()
        asker = threading.Thread(target=served.client.get, args=(path,))
        asker.start()
        assert begun.wait(3)
        before = time.monotonic()
        assert served.client.get("/healthz").status_code == 200
        assert time.monotonic() - before < 1
        go_on.set()
        asker.join()


def test_an_archive_that_cannot_be_written_leaves_nothing_behind(
    simulated_storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(archive: tarfile.TarFile, name: Path, arcname: str) -> None:
        assert name.is_dir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "add", disk_full)
    monkeypatch.setattr(artifacts, "WAIT_SECONDS", 120.0)

    async def make() -> None:
        files = artifacts.Artifacts(simulated_storage)
        with pytest.raises(OSError, match="No space left"):
            await files.get("export", "birds", FIRST)
        assert not list(files.folder.iterdir())
        files.close()

    asyncio.run(make())


def test_a_download_under_way_ends_whole_although_the_file_is_made_again(
    simulated_storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "WAIT_SECONDS", 120.0)

    async def make_twice() -> None:
        files = artifacts.Artifacts(simulated_storage)
        first = await files.get("report", "birds", FIRST)
        assert first is not None
        whole = first.read_bytes()
        with first.open("rb") as download:
            begun = download.read(100)
            assert await files.get("report", "birds", SECOND) not in (None, first)
            assert begun + download.read() == whole
        assert [path.suffix for path in files.folder.rglob("*") if path.is_file()] == [".html"]
        files.close()

    asyncio.run(make_twice())


def test_a_report_made_before_labels_were_verified_is_not_served_afterwards(serve: Serve, tmp_path: Path) -> None:
    experiment = made_up_search(tmp_path)
    served = serve(tmp_path)
    assert "verified labels choose" not in made(served, "misled", "report").text

    write_verify_files(experiment, tmp_path / "page", 30, "verify misled --labels verify.csv")
    record_answers(tmp_path / "misled", right_labels(experiment), "ann")

    assert f"verified labels choose trial {RIGHT}" in made(served, "misled", "report").text


def test_files_made_before_a_confirmation_are_not_served_afterwards(
    serve: Serve, finished_search: Experiment, confirmed: Experiment, tmp_path: Path
) -> None:
    storage = copy_of(finished_search, tmp_path)
    served = serve(storage)
    assert "held out: trial" in made(served, "done", "report").text

    shutil.copytree(folder_of(confirmed) / "confirmation", storage / "done" / "confirmation")

    assert "held out: 2 confirmation runs of" in made(served, "done", "report").text


def test_a_file_whose_making_began_before_something_was_stored_is_made_again(
    simulated_storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "WAIT_SECONDS", 120.0)

    async def ask_twice() -> None:
        files = artifacts.Artifacts(simulated_storage)
        early = asyncio.create_task(files.get("report", "birds", FIRST))
        await asyncio.sleep(0.1)
        late = await files.get("report", "birds", SECOND)
        assert late not in (None, await early)
        files.close()

    asyncio.run(ask_twice())


def test_while_a_journal_grows_a_file_is_served_for_a_minute_unless_labels_were_verified(
    simulated_storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "WAIT_SECONDS", 120.0)
    growing = ResultsVersion((2,), is_growing=True)

    async def ask() -> None:
        files = artifacts.Artifacts(simulated_storage)
        first = await files.get("report", "birds", FIRST)
        assert await files.get("report", "birds", growing) == first
        verified = await files.get("report", "birds", growing._replace(answers=("ann",)))
        assert verified not in (None, first)
        files.close()

    asyncio.run(ask())
