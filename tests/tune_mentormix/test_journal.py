import json
from pathlib import Path

import pytest

from tune_mentormix.errors import RequestError
from tune_mentormix.journal import Journal, read_events


def journal_with(path: Path, epochs: int) -> None:
    journal = Journal(path)
    for epoch in range(1, epochs + 1):
        journal.append("report", trial=0, attempt=1, epoch=epoch, val_accuracy=0.1 * epoch)
    journal.close()


def test_an_event_is_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    entry = journal.append("finished", trial=3, epoch=5)
    assert list(read_events(tmp_path / "j")) == [entry]
    assert (entry["event"], entry["trial"]) == ("finished", 3)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_torn_anywhere_is_skipped_and_then_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    journal_with(path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [event["epoch"] for event in read_events(path)] == [1, 2]
    Journal(path).append("report", trial=0, attempt=2, epoch=3, val_accuracy=0.3)
    assert [event["epoch"] for event in read_events(path)] == [1, 2, 3]


def test_a_first_line_torn_leaves_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"time": 1')
    Journal(tmp_path / "j").append("finished", trial=0, epoch=1)
    assert len(list(read_events(tmp_path / "j"))) == 1


def test_damage_in_the_middle_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal_with(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"garbage\n" + lines[2])
    with pytest.raises(RequestError, match="line 2 is not a journal event"):
        list(read_events(path))


def test_nan_becomes_null_so_that_every_json_reader_can_read_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append("report", trial=0, attempt=1, epoch=1, val_accuracy=float("nan"), more=[float("inf")])
    text = (tmp_path / "j").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["val_accuracy"] is None
