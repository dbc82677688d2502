"""That a storage which fails is told of once, and that `status` reads it from the lease."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.simulated_search import simulate_search
from tests.support.small_disk import mounted_disk
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE
from tune_mentormix.results.summary import search_status
from tune_mentormix.storage import lease as leases
from tune_mentormix.storage import waiting
from tune_mentormix.storage.lease import LEASE_FILE, Lease
from tune_mentormix.storage.waiting import StorageWaits

FULL = "cannot be written: No space left on device"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is logged about waiting, whatever an earlier command has set up for the terminal."""
    monkeypatch.setattr(waiting.logger, "handlers", [caplog.handler])
    monkeypatch.setattr(waiting.logger, "propagate", False)
    return caplog


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> StorageWaits:
    """Nothing waits yet, as in a new process."""
    waits = StorageWaits()
    monkeypatch.setattr(leases, "WAITS", waits)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    return waits


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few pages."""
    with mounted_disk(tmp_path / "disk", "256k") as disk:
        yield disk


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError:
            return


def until(is_so: object) -> None:
    assert callable(is_so)
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_first_that_waits_and_the_last_that_is_done_are_told_of_and_no_other(
    told: pytest.LogCaptureFixture,
) -> None:
    waits = StorageWaits()
    waits.begin("the journal", FULL)
    waits.begin("a checkpoint of trial 3", FULL)
    waits.begin("the journal", FULL)
    waits.end("the journal")
    waits.end("the lease")
    wait = waits.current()
    assert wait is not None
    assert wait.reason == f"a checkpoint of trial 3 {FULL}"
    waits.end("a checkpoint of trial 3")
    assert waits.current() is None
    waits.begin("the lease", FULL)
    waits.end("the lease", gave_up=True)
    begun, ended, again = (record.getMessage() for record in told.records)
    assert begun.startswith(f"the journal {FULL}. Trying again for ")
    assert ended.startswith("the storage works again, after ")
    assert again.startswith(f"the lease {FULL}. ")
    assert {record.levelno for record in told.records} == {logging.WARNING}


def test_status_says_since_when_a_running_search_waits_and_why(
    tmp_path: Path, waits: StorageWaits, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = simulate_search(tmp_path, "birds", 4, epochs=10)
    lease = tmp_path / "birds" / LEASE_FILE
    with Lease(tmp_path / "birds").acquire():
        until(lambda: search_status(experiment).waiting is None)  # on a busy machine a renewal may be late
        waits.begin("a checkpoint of trial 3", FULL)
        until(lambda: "waiting" in json.loads(lease.read_text()))
        waited = search_status(experiment).waiting
        assert waited is not None
        assert abs(waited.since - time.time()) < 60
        assert run(["status", "birds", "--storage", str(tmp_path)]) == DONE
        state, line, *_ = capsys.readouterr().out.splitlines()
        assert state.startswith("birds: running, ")
        assert line.startswith("waiting for the storage since 20")
        assert line.endswith(f": a checkpoint of trial 3 {FULL}")
        waits.end("a checkpoint of trial 3")
        until(lambda: "waiting" not in json.loads(lease.read_text()))
    waits.begin("a checkpoint of trial 3", FULL)
    assert search_status(experiment).waiting is None, "no driver runs it"


def test_status_tells_of_a_disk_so_full_that_even_the_lease_cannot_be_written(
    disk: Path, waits: StorageWaits, told: pytest.LogCaptureFixture
) -> None:
    (disk / "birds").mkdir()
    lease = Lease(disk / "birds")
    with lease.acquire():
        assert lease.waiting() is None
        fill(disk)
        until(lambda: lease.waiting())
        waited = lease.waiting()
        assert waited is not None
        assert waited.reason == "the lease was not renewed since: no space is left on the disk"
        assert lease.holder() is not None
        (disk / "filler").unlink()
        until(lambda: lease.waiting() is None)
    assert [record.getMessage().split(",")[0] for record in told.records] == [
        f"the lease {FULL}. Trying again for 10 s; nothing is lost",
        "the storage works again",
    ]
