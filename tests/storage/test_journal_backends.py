"""The journal of an object store: how many segments there are, and that none is lost or read twice."""

from itertools import count

import pytest

from tests.support.object_store import ObjectStore
from tune_mentormix.storage import journal_backends
from tune_mentormix.storage.journal_backends import LeaseLostError, SegmentsBackend, read_segments
from tune_mentormix.storage.paths import RemotePath

places = count()


@pytest.fixture
def folder(object_store: ObjectStore) -> RemotePath:
    return RemotePath(object_store.uri(f"segments/{next(places)}"))


def names(folder: RemotePath) -> list[str]:
    return sorted(found.name.split(".")[0] for found in folder.iterdir())


def append(segments: SegmentsBackend, first: int, last: int) -> None:
    for number in range(first, last + 1):
        segments.append(f"{number}\n".encode())


def numbers(folder: RemotePath) -> list[int]:
    return [int(line) for line in read_segments(folder)]


def test_small_segments_become_few_large_ones(folder: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_backends, "MERGED_AT_ONCE", 4)
    segments = SegmentsBackend(folder)
    append(segments, 1, 23)
    assert names(folder) == ["000001-000016", "000017-000020", "000021", "000022", "000023"]
    assert numbers(folder) == list(range(1, 24))
    segments.close()
    assert names(folder) == ["000001-000023"]
    assert numbers(folder) == list(range(1, 24))


def test_a_new_writer_merges_what_a_killed_one_left_and_counts_on(folder: RemotePath) -> None:
    append(SegmentsBackend(folder), 1, 3)
    second = SegmentsBackend(folder)
    assert names(folder) == ["000001-000003"]
    append(second, 4, 5)
    assert names(folder) == ["000001-000003", "000004", "000005"]
    assert numbers(folder) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("deleted", [0, 1, 2, 3])
def test_a_writer_killed_between_merging_and_deleting_leaves_nothing_twice(folder: RemotePath, deleted: int) -> None:
    append(SegmentsBackend(folder), 1, 3)
    small = {found.name: found.read_bytes() for found in folder.iterdir()}
    SegmentsBackend(folder)
    for name in sorted(small)[deleted:]:
        (folder / name).write_bytes(small[name])  # as if the writer had not come to deleting it
    assert numbers(folder) == [1, 2, 3]
    append(SegmentsBackend(folder), 4, 4)
    assert numbers(folder) == [1, 2, 3, 4]


def test_a_writer_killed_between_uploads_of_a_merge_is_followed_by_one_that_reads_all(folder: RemotePath) -> None:
    append(SegmentsBackend(folder), 1, 2)
    append(SegmentsBackend(folder), 3, 4)
    append(SegmentsBackend(folder), 5, 6)
    merged_once = {found.name: found.read_bytes() for found in folder.iterdir()}
    SegmentsBackend(folder).close()
    for name, data in merged_once.items():
        (folder / name).write_bytes(data)
    assert numbers(folder) == [1, 2, 3, 4, 5, 6]


def test_nothing_is_merged_again_that_is_one_segment(folder: RemotePath) -> None:
    append(SegmentsBackend(folder), 1, 3)
    SegmentsBackend(folder).close()
    (before,) = folder.iterdir()
    SegmentsBackend(folder).close()
    assert list(folder.iterdir()) == [before]


def test_segments_that_are_merged_while_they_are_read_are_read_once(folder: RemotePath) -> None:
    append(SegmentsBackend(folder), 1, 3)
    reading = read_segments(folder)
    first = int(next(reading))
    SegmentsBackend(folder)
    assert [first, *map(int, reading)] == [1, 2, 3]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_segments_that_are_removed_under_a_writer_are_written_again(
    folder: RemotePath, kept: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_backends, "MERGED_AT_ONCE", 4)
    append(SegmentsBackend(folder), 1, 3)
    segments = SegmentsBackend(folder)
    append(segments, 4, 9)
    for found in sorted(folder.iterdir(), key=lambda found: found.name)[kept:]:
        found.unlink()
    append(segments, 10, 16)
    assert numbers(folder) == list(range(1, 17))
    assert "removed while the search runs: it was written again, complete" in caplog.text
    assert len(caplog.records) == 1
    segments.close()
    assert numbers(folder) == list(range(1, 17))


def test_a_writer_that_was_taken_over_writes_nothing_again(folder: RemotePath) -> None:
    first = SegmentsBackend(folder)
    append(first, 1, 3)
    append(SegmentsBackend(folder), 4, 5)  # which merged what the first wrote
    with pytest.raises(LeaseLostError):
        append(first, 6, 6)
    assert numbers(folder) == [1, 2, 3, 4, 5]
