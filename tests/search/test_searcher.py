"""What is proposed after a worker was lost; with real workers, `test_interruptions` and `tests/faults` show it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.tune.search import Searcher

from tests.support.searches import quiet
from trainables.data import load_dataset
from trainables.files import STATE_FILE, write_checkpoint
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Checkpoint, EventJournal, Proposed, RunStarted
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.search.searcher import JournaledSearcher, Run, TrialStart
from tune_mentormix.search.stopper import SearchStopper
from tune_mentormix.storage.journal import JOURNAL_FILE

ALLOWED, ROOM = 2, 3


@pytest.fixture
def journal_and_searcher(tmp_path: Path) -> tuple[EventJournal, JournaledSearcher]:
    """The searcher of a run of trial 0 alone."""
    settings = SearchSettings(num_samples=1, max_restarts=ALLOWED)
    experiment = Experiment(tmp_path, settings)
    journal = EventJournal(tmp_path / JOURNAL_FILE)
    journal.subscribe(experiment.apply)
    journal.record(RunStarted(run=1, num_samples=1, rungs=[]))
    stopper = SearchStopper(experiment, journal, settings, quiet)
    run = Run(experiment, journal, settings, load_dataset(settings.data_settings()), quiet)
    proposals: Iterator[TrialStart | None] = iter([TrialStart(Trial(0, {"burn_in": 10}, fold=3))])
    return journal, JournaledSearcher(run, proposals, stopper, lambda: ROOM)


def test_a_lost_trial_is_the_next_attempt_from_its_newest_whole_checkpoint(
    journal_and_searcher: tuple[EventJournal, JournaledSearcher], tmp_path: Path
) -> None:
    journal, searcher = journal_and_searcher
    searcher.suggest("first")
    for epoch in (1, 2):
        write_checkpoint(tmp_path / str(epoch), {STATE_FILE: lambda file: file.write(b"state")})
        journal.record(Checkpoint(trial=0, epoch=epoch, path=str(epoch)))
    (tmp_path / "2" / STATE_FILE).write_bytes(b"truncated")
    searcher.on_trial_complete("first", error=True)
    assert searcher.retry(0)

    again = searcher.suggest("second")
    assert isinstance(again, dict)
    assert (again["trial"], again["attempt"], again["fold"]) == (0, 2, 3)
    assert again["resume_from"] == str(tmp_path / "1")


def test_a_search_is_not_finished_while_a_trial_that_runs_may_be_lost(
    journal_and_searcher: tuple[EventJournal, JournaledSearcher],
) -> None:
    _, searcher = journal_and_searcher
    searcher.suggest("first")
    assert searcher.suggest("another") is None
    searcher.on_trial_complete("first")
    assert searcher.suggest("another") == Searcher.FINISHED


def test_only_losses_without_a_new_epoch_in_between_count(
    journal_and_searcher: tuple[EventJournal, JournaledSearcher],
) -> None:
    _, searcher = journal_and_searcher
    for _ in range(5):
        assert searcher.retry(0)
        searcher.reset_losses(0)
    assert [searcher.retry(0) for _ in range(ALLOWED + 1)] == [True] * ALLOWED + [False]


def test_no_more_is_proposed_than_there_is_room_for(
    journal_and_searcher: tuple[EventJournal, JournaledSearcher],
) -> None:
    journal, searcher = journal_and_searcher
    searcher.suggest("first")
    for trial, start in enumerate(["second", "third", "fourth"], start=1):
        journal.record(Proposed(trial=trial, config={"burn_in": 10}, attempt=1))
        searcher.retry(trial)
        proposed = searcher.suggest(start)
        assert (proposed is None) == (start == "fourth")
    searcher.on_trial_complete("first")
    assert isinstance(searcher.suggest("fourth"), dict)
