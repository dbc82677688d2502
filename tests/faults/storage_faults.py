"""Faults of a search's storage and of its output: each is made, seen in a line of the search, and undone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.driver import Driver
from tune_mentormix.output import StreamName

LINE_SECONDS = 60.0  # in which a line must be seen; a busy machine is slow
STORAGE_WORKS_AGAIN = "the storage works again"
FILLER = "filler"
STDERR: StreamName = "stderr"

StorageFault = Callable[[Driver, Path], "float | None"]


def full_disk(driver: Driver, storage: Path) -> float | None:
    """Fills the disk until the search says so; returns after how many seconds, or None if it ended before."""
    return _storage_fails(driver, _filled(storage))


def missing_storage(driver: Driver, storage: Path) -> float | None:
    """Takes the folder of the experiment away, as when a disk is unmounted, until the search says so."""
    return _storage_fails(driver, _moved_away(storage / driver.experiment.name))


def removed_journal(driver: Driver, storage: Path) -> float | None:
    """Removes the journal under the search, which must write it again."""
    journal = storage / driver.experiment.name / "journal.jsonl"
    before = driver.printed()
    journal.unlink()
    seconds = driver.wait_for_line("was removed while the search runs: it was written again", before, LINE_SECONDS)
    assert seconds is None or journal.is_file()
    return seconds


def cut_output(driver: Driver, _storage: Path) -> float | None:
    """Ends the reader of what the search prints, until the journal tells of it."""
    lost, began = driver.events("output_lost"), time.monotonic()
    driver.cut_output()
    return time.monotonic() - began if driver.wait_for("output_lost", lost + 1) else None


def _storage_fails(driver: Driver, failing: Iterator[None]) -> float | None:
    before = driver.printed()
    with contextmanager(lambda: failing)():
        seconds = driver.wait_for_line("Trying again for", before, LINE_SECONDS)
    if seconds is not None:
        driver.wait_for_line(STORAGE_WORKS_AGAIN, before, LINE_SECONDS)
    return seconds


def _filled(disk: Path) -> Iterator[None]:
    filler = disk / FILLER
    with filler.open("wb", buffering=0) as stream:
        for size in (1 << 20, 4096, 1):
            try:
                while stream.write(bytes(size)):
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


def _moved_away(folder: Path) -> Iterator[None]:
    away = folder.with_name(f".{folder.name}.away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


STORAGE_FAULTS: dict[str, StorageFault] = {
    "full disk": full_disk,
    "missing storage": missing_storage,
    "removed journal": removed_journal,
    "cut output": cut_output,
}
