"""A running search on an object store: its journal grows and its segments are merged while the service reads it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.service.conftest import Serve
from tests.support.object_store import ObjectStore
from tests.support.simulated_search import simulate_search
from tune_mentormix.experiment.experiment import SEARCH_FILE
from tune_mentormix.service import experiments
from tune_mentormix.storage import journal_backends as journal_segments
from tune_mentormix.storage.journal import JOURNAL_FILE, Event, Journal
from tune_mentormix.storage.paths import RemotePath, remove_folder

NAME = "grows"


@pytest.fixture
def storage(object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemotePath:
    """A storage of its own, read at each request."""
    monkeypatch.setattr(experiments, "REMOTE_SECONDS", 0.0)
    monkeypatch.setattr(journal_segments, "MERGED_AT_ONCE", 4)
    return RemotePath(object_store.uri(f"served/{tmp_path.name}"))


def begin(storage: RemotePath, folder: Path, seed: int = 0) -> list[Event]:
    """Stores the settings of a search, and returns the events that are to be appended."""
    simulate_search(folder, NAME, 4, epochs=6, seed=seed)
    (storage / NAME / SEARCH_FILE).write_bytes((folder / NAME / SEARCH_FILE).read_bytes())
    return [json.loads(line) for line in (folder / NAME / JOURNAL_FILE).read_text().splitlines()]


def append(journal: Journal, events: list[Event]) -> None:
    """As a driver does, one segment for each event of weight."""
    for event in events:
        journal.append(event["event"], **{key: event[key] for key in event if key not in ("time", "event")})


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int | None]]:
    """The events that the service logged, and their trials."""
    records = [vars(record) for record in caplog.records if "event" in vars(record)]
    return [(record["event"], record.get("trial")) for record in records]


def of_weight(events: list[Event]) -> list[tuple[str, int | None]]:
    return [(event["event"], event.get("trial")) for event in events if event["event"] != "report"]


def in_thirds(events: list[Event]) -> Iterator[list[Event]]:
    size = -(-len(events) // 3)
    for start in range(0, len(events), size):
        yield events[start : start + size]


def test_a_search_that_grows_and_is_merged_is_read_on_and_each_event_is_logged_once(
    storage: RemotePath, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    events = begin(storage, tmp_path)
    served = serve(storage)
    path = f"/api/v1/experiments/{NAME}"
    assert served.get(path).json()["epochs_run"] == 0
    told = 0
    with closing(Journal(storage / NAME / JOURNAL_FILE)) as journal:
        for event in events:
            append(journal, [event])
            if event["event"] != "report":
                told += 1
                assert served.get(path).status_code == 200, served.get(path).text
                assert len(logged(caplog)) == told
    assert logged(caplog) == of_weight(events)
    answer = served.get(path).json()
    assert answer["epochs_run"] == sum(event["event"] == "report" for event in events)
    assert answer["state"] == "finished"


def test_events_that_came_while_the_store_could_not_be_read_are_logged_once_it_can(
    storage: RemotePath,
    serve: Serve,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    events = begin(storage, tmp_path)
    served = serve(storage)
    path = f"/api/v1/experiments/{NAME}"
    with closing(Journal(storage / NAME / JOURNAL_FILE)) as journal:
        for number, part in enumerate(in_thirds(events)):
            append(journal, part)
            if number == 1:
                damaged = storage / NAME / Path(JOURNAL_FILE).stem / "000900.ffffffff.jsonl"
                damaged.write_bytes(b"no event\n{}\n")
                assert served.get(path).status_code == 409
                damaged.unlink()
            assert served.get(path).status_code == 200
    assert logged(caplog) == of_weight(events)


def test_a_new_search_under_an_old_name_is_streamed_from_its_beginning(
    storage: RemotePath, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = begin(storage, tmp_path / "first")
    served = serve(storage)
    with closing(Journal(storage / NAME / JOURNAL_FILE)) as journal:
        append(journal, first)
    assert served.get(f"/api/v1/experiments/{NAME}").json()["state"] == "finished"
    remove_folder(storage / NAME)
    second = begin(storage, tmp_path / "second", seed=1)
    caplog.clear()
    caplog.set_level(logging.INFO)
    with closing(Journal(storage / NAME / JOURNAL_FILE)) as journal:
        append(journal, second[:-1])
    answer = served.get(f"/api/v1/experiments/{NAME}").json()
    assert answer["state"] == "finished"
    assert logged(caplog) == of_weight(second[:-1])
