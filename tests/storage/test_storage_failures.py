"""A journal whose storage fails: a device that is really full, a server that is really gone."""

import errno
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.object_store import ObjectStore
from tests.support.searches import quiet
from trainables import files
from trainables.data import load_dataset
from trainables.settings import DataSettings
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import EventJournal, Proposed
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.search.callbacks import JournalCallback
from tune_mentormix.search.early_stopping import AsyncSuccessiveHalving
from tune_mentormix.search.searcher import JournaledSearcher, Run
from tune_mentormix.search.stopper import SearchStopper
from tune_mentormix.storage import journal as journal_module
from tune_mentormix.storage import waiting
from tune_mentormix.storage.journal import Journal, read_events
from tune_mentormix.storage.paths import RemotePath

FULL = Path("/dev/full")  # a device on which every write fails as on a full disk
# A process that may not write files over 100 bytes: the second line fits in part.
WRITE_OVER_A_LIMIT = """
import json, pathlib, resource, signal, sys, time
from trainables import files
from tune_mentormix.storage import journal
files.FIRST_DELAY_SECONDS = 0.05
path = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
written = journal.Journal(path)
written.append("finished", trial=0, epoch=1)
written.append("finished", trial=1, epoch=1)
assert [json.loads(line)["trial"] for line in path.read_bytes().splitlines()] == [0]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
time.sleep(0.1)
written.append("finished", trial=2, epoch=1)
assert written.is_flushed
"""
needs_a_full_device = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(files, "MAX_DELAY_SECONDS", 0.05)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What the journal logs, whatever an earlier command has set up for the terminal."""
    monkeypatch.setattr(waiting.logger, "handlers", [caplog.handler])
    monkeypatch.setattr(waiting.logger, "propagate", False)
    return caplog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal on a disk that is full, until `make_room` is called."""
    (tmp_path / "journal.jsonl").symlink_to(FULL)
    return tmp_path / "journal.jsonl"


def waits(journal: Journal) -> bool:
    """Whether something could not be written yet."""
    return not journal.is_flushed


def make_room(path: Path) -> None:
    path.unlink()
    path.touch()


@needs_a_full_device
def test_events_wait_while_the_disk_is_full_and_are_written_in_order(
    path: Path, warnings: pytest.LogCaptureFixture
) -> None:
    journal = Journal(path)
    for epoch in (1, 2):
        journal.append("report", trial=0, attempt=1, epoch=epoch, val_accuracy=0.5)
    journal.append("proposed", trial=1, config={})
    assert waits(journal)
    make_room(path)
    time.sleep(0.1)
    journal.flush()
    assert not waits(journal)
    assert [(event["event"], event.get("epoch")) for event in read_events(path)] == [
        ("report", 1),
        ("report", 2),
        ("proposed", None),
    ]
    messages = warnings.messages
    assert len(messages) == 2
    assert "No space left on device" in messages[0]
    assert "the storage works again" in messages[1]


@needs_a_full_device
def test_a_disk_that_stays_full_is_a_permanent_error_in_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RETRY_TIMEOUT_SECONDS", 0.2)
    journal = Journal(path)
    journal.append("finished", trial=0, epoch=1)
    assert journal.permanent_error is None
    time.sleep(0.3)
    journal.flush()
    assert "No space left on device" in str(journal.permanent_error)
    assert "\n" not in str(journal.permanent_error)
    journal.close()


def test_a_line_written_in_part_is_cut_off_before_the_next_try(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    subprocess.run([sys.executable, "-c", WRITE_OVER_A_LIMIT, str(path)], check=True)
    assert [event["trial"] for event in read_events(path)] == [0, 1, 2]
    assert path.read_bytes().endswith(b"\n")


def test_a_writer_that_was_cut_off_leaves_the_lines_of_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    with closing(Journal(path)) as cut_off, closing(Journal(path)) as successor:
        fsync = os.fsync

        def fail_after_the_successor_wrote(number: int) -> None:
            monkeypatch.setattr(os, "fsync", fsync)
            path.write_bytes(b"")  # what the one cut off had written did not reach the storage
            successor.append("finished", trial=1, epoch=1)
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail_after_the_successor_wrote)
        cut_off.append("finished", trial=0, epoch=1)
        assert [event["trial"] for event in read_events(path)] == [1]
    assert [event["trial"] for event in read_events(path)] == [1]


@needs_a_full_device
def test_old_checkpoints_stay_until_the_journal_knows_newer_ones(path: Path) -> None:
    experiment = Experiment(path.parent, SearchSettings())
    experiment.apply(Proposed(trial=0, config={}))
    with closing(EventJournal(path)) as journal:
        journal.subscribe(experiment.apply)
        run = Run(experiment, journal, SearchSettings(epochs=9), load_dataset(DataSettings()), quiet)
        stopper = SearchStopper(experiment, journal, run.settings, quiet)
        searcher = JournaledSearcher(run, iter([]), stopper, lambda: 1)
        told = JournalCallback(run, AsyncSuccessiveHalving(), searcher, stopper)
        folders = [path.parent / "runs/1/trial-0000" / f"checkpoint_{epoch:06d}" for epoch in (1, 2, 3, 4)]
        for epoch, folder in enumerate(folders, start=1):
            folder.mkdir(parents=True)
            trial = SimpleNamespace(config={"trial": 0, "attempt": 1}, last_result={"epoch": epoch})
            if epoch == 4:
                make_room(path)
                time.sleep(0.1)
            told.on_checkpoint(epoch, [], trial, SimpleNamespace(path=str(folder)))
            assert folders[0].exists() == (epoch < 4)


def test_a_store_that_is_gone_for_a_while_gets_every_event_once(
    object_store: ObjectStore, warnings: pytest.LogCaptureFixture
) -> None:
    path = RemotePath(object_store.uri("outage")) / "journal.jsonl"
    with closing(Journal(path)) as journal:
        journal.append("proposed", trial=0, config={})
        object_store.stop()
        try:
            journal.append("finished", trial=0, epoch=1)
            assert waits(journal)
        finally:
            object_store.start_again()
        time.sleep(0.1)
        journal.append("finished", trial=1, epoch=1)
        assert not waits(journal)
    assert [(event["event"], event["trial"]) for event in read_events(path)] == [
        ("proposed", 0),
        ("finished", 0),
        ("finished", 1),
    ]
    assert "Could not connect" in warnings.messages[0]


def test_a_journal_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Journal(tmp_path / "missing" / "journal.jsonl")


def test_a_store_that_does_not_answer_is_an_error_that_names_it() -> None:
    path = RemotePath("s3://bucket/a?endpoint_override=http://127.0.0.1:9&scheme=http") / "journal.jsonl"
    with pytest.raises((OSError, RequestError), match=r"s3://bucket cannot be used: .*onnect") as error:
        Journal(path)
    assert "\n" not in str(error.value)
