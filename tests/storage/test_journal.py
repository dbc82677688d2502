"""What every journal does, on a disk and on an object store."""

import json
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from tests.support.object_store import ObjectStore
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.journal import Journal, read_events
from tune_mentormix.storage.paths import Location, RemotePath

places = count()


def on_a_disk(folder: Path, _request: pytest.FixtureRequest) -> Location:
    return folder / "journal.jsonl"


def on_an_object_store(_folder: Path, request: pytest.FixtureRequest) -> Location:
    store: ObjectStore = request.getfixturevalue("object_store")
    return RemotePath(store.uri(f"journals/{next(places)}")) / "journal.jsonl"


@pytest.fixture(params=[on_a_disk, on_an_object_store])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    place: Callable[[Path, pytest.FixtureRequest], Location] = request.param
    return place(tmp_path, request)


def append_reports(path: Location, *epochs: int) -> None:
    with closing(Journal(path)) as journal:
        for epoch in epochs:
            journal.append("report", trial=0, attempt=1, epoch=epoch, val_accuracy=0.1 * epoch)


def test_where_no_journal_is_there_are_no_events(path: Location) -> None:
    assert list(read_events(path)) == []


def test_an_event_that_something_follows_from_is_stored_when_append_returns(path: Location) -> None:
    with closing(Journal(path)) as journal:
        report = journal.append("report", trial=3, attempt=1, epoch=5, val_accuracy=0.5)
        end = journal.append("finished", trial=3, epoch=5)
        assert list(read_events(path)) == [report, end]
        assert (end["event"], end["trial"]) == ("finished", 3)
        assert journal.is_flushed


def test_a_journal_that_is_removed_under_its_writer_is_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.jsonl"
    append_reports(path, 1, 2)
    with closing(Journal(path)) as journal:
        journal.append("report", trial=0, attempt=1, epoch=3, val_accuracy=0.3)
        path.unlink()
        journal.append("report", trial=0, attempt=1, epoch=4, val_accuracy=0.4)
        journal.append("finished", trial=0, epoch=4)
        assert journal.permanent_error is None
    assert [event["epoch"] for event in read_events(path)] == [1, 2, 3, 4, 4]
    assert "was removed while the search runs: it was written again" in caplog.text


def test_writers_one_after_another_write_one_journal(path: Location) -> None:
    append_reports(path, 1, 2)
    append_reports(path)
    append_reports(path, 3)
    append_reports(path, 4, 5)
    assert [event["epoch"] for event in read_events(path)] == [1, 2, 3, 4, 5]


def test_what_a_killed_writer_stored_is_read_and_written_on(path: Location) -> None:
    killed = Journal(path)
    killed.append("proposed", trial=0, config={})
    killed.append("finished", trial=0, epoch=1)
    append_reports(path, 2)
    assert [event["event"] for event in read_events(path)] == ["proposed", "finished", "report"]


def test_nan_becomes_null_so_that_every_json_reader_can_read_it(path: Location) -> None:
    with closing(Journal(path)) as journal:
        journal.append("report", trial=0, attempt=1, epoch=1, val_accuracy=float("nan"), more=[float("inf")])
    (event,) = read_events(path)
    assert (event["val_accuracy"], event["more"]) == (None, [None])


def test_two_writers_at_once_are_noticed_by_the_one_that_was_cut_off(path: Location) -> None:
    first = Journal(path)
    first.append("proposed", trial=0, config={})
    append_reports(path, 1)  # by another, when the first one's lease had expired
    first.append("finished", trial=0, epoch=1)
    assert "another process runs this experiment now" in str(first.permanent_error)
    assert not first.is_flushed
    first.close()
    assert [event["event"] for event in read_events(path)] == ["proposed", "report"]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_torn_anywhere_is_skipped_and_then_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    append_reports(path, 1, 2, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [event["epoch"] for event in read_events(path)] == [1, 2]
    append_reports(path, 3)
    assert [event["epoch"] for event in read_events(path)] == [1, 2, 3]


def test_a_first_line_torn_leaves_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"time": 1')
    append_reports(tmp_path / "j", 1)
    assert len(list(read_events(tmp_path / "j"))) == 1


def test_damage_in_the_middle_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    append_reports(path, 1, 2, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"garbage\n" + lines[2])
    with pytest.raises(RequestError, match="line 2 is not a journal event"):
        list(read_events(path))


def test_a_journal_on_a_disk_is_one_file_of_json_lines(tmp_path: Path) -> None:
    append_reports(tmp_path / "j", 1, 2)
    lines = (tmp_path / "j").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["epoch"] for line in lines] == [1, 2]
