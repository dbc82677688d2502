"""Reports and exports: made on demand, in a process of their own."""

from __future__ import annotations

import asyncio
import errno
import io
import tarfile
import threading
import time
from pathlib import Path

import pytest
from httpx2 import Response

from tests.service.conftest import RUN, Serve, Served, sign_in
from tests.support.simulated_search import simulate_search
from tune_mentormix.service import artifacts
from tune_mentormix.service.experiments import ExperimentCache, Version

pytestmark = pytest.mark.slow


def made(served: Served, name: str, kind: str) -> Response:
    """Asks until it is made, as a client does."""
    deadline = time.monotonic() + 120
    while True:
        answer = served.get(f"/api/v1/experiments/{name}/{kind}")
        if answer.status_code != 202 or time.monotonic() > deadline:
            return answer


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

    def slow(library: ExperimentCache, name: str) -> Version:
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
            await files.get("export", "birds", version=1)
        assert not list(files.folder.iterdir())
        files.close()

    asyncio.run(make())


def test_a_download_under_way_ends_whole_although_the_file_is_made_again(
    simulated_storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(artifacts, "WAIT_SECONDS", 120.0)

    async def make_twice() -> None:
        files = artifacts.Artifacts(simulated_storage)
        first = await files.get("report", "birds", version=1)
        assert first is not None
        whole = first.read_bytes()
        with first.open("rb") as download:
            begun = download.read(100)
            assert await files.get("report", "birds", version=2) not in (None, first)
            assert begun + download.read() == whole
        assert [path.suffix for path in files.folder.rglob("*") if path.is_file()] == [".html"]
        files.close()

    asyncio.run(make_twice())
