"""A search on a disk that is full for a while, or stays full: a separate small file system, filled to the brim."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.small_disk import mounted_disk
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import SearchFailedError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.search.run import resume_search, start_search
from tune_mentormix.storage.journal import JOURNAL_FILE, read_events

pytestmark = pytest.mark.slow

FULL_AT_EPOCH = 6  # of all trials together
FULL_SECONDS = 2.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "disk", "48m") as disk:
        yield disk


def fill(disk: Path) -> Path:
    """Fills a disk with one file."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (65_536, 512, 1):
            try:
                while stream.write(bytes(size)):
                    pass
            except OSError:
                continue
    return filler


def ends(experiment: Experiment) -> Counter[int]:
    events = read_events(experiment.path / JOURNAL_FILE)
    return Counter(event["trial"] for event in events if event["event"] in ("finished", "stopped", "failed"))


def test_a_disk_that_is_full_for_a_while_costs_nothing_but_time(
    finished_search: Experiment,
    small_settings: Callable[..., SearchSettings],
    small_disk: Path,
) -> None:
    filled: list[float] = []

    def fill_for_a_while(experiment: Experiment) -> None:
        if experiment.epochs_run >= FULL_AT_EPOCH and not filled:
            fill(small_disk)
            filled.append(time.monotonic())
        elif filled and time.monotonic() - filled[0] > FULL_SECONDS:
            (small_disk / "filler").unlink(missing_ok=True)

    experiment = start_search(small_settings(small_disk, name="done"), fill_for_a_while)
    assert filled
    assert read_experiment(small_disk, "done").trials == experiment.trials, "what was stored is what happened"
    assert {n: t.curve for n, t in experiment.trials.items()} == {
        n: t.curve for n, t in finished_search.trials.items()
    }
    assert set(ends(experiment).values()) == {1}
    assert experiment.epochs_run == finished_search.epochs_run


def test_a_disk_that_stays_full_ends_the_search_and_it_can_be_resumed_once_there_is_room(
    finished_search: Experiment,
    small_settings: Callable[..., SearchSettings],
    small_disk: Path,
) -> None:
    def fill_up(experiment: Experiment) -> None:
        if experiment.epochs_run >= FULL_AT_EPOCH and not (small_disk / "filler").exists():
            fill(small_disk)

    with pytest.raises(SearchFailedError, match="No space left on device") as error:
        start_search(small_settings(small_disk, name="done"), fill_up)
    assert "\n" not in str(error.value)
    stored = read_experiment(small_disk, "done")
    assert (stored.state(), stored.counts()["failed"]) == ("interrupted", 0)
    (small_disk / "filler").unlink()

    resumed = resume_search(small_disk, "done", {}, lambda _experiment: None)
    assert resumed.state() == "finished"
    assert {n: t.curve for n, t in resumed.trials.items()} == {n: t.curve for n, t in finished_search.trials.items()}
    assert {n: t.config for n, t in resumed.trials.items()} == {
        n: t.config for n, t in finished_search.trials.items()
    }
    assert ends(resumed) == Counter(range(5))
