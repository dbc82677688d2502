"""What is proposed after a worker was lost; with real workers, `test_interruptions` and `tests/faults` show it."""

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from trainables.checkpoint_manifest import STATE_FILE, write_checkpoint
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Checkpoint, EventJournal, Proposed, RunStarted
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.search.proposals import start_trial
from tune_mentormix.search.searcher import RestartingSearcher
from tune_mentormix.storage.journal import JOURNAL_FILE

ALLOWED, ROOM = 2, 3


class OneTrial(Searcher):
    """Proposes trial 0, and is finished."""

    def __init__(self, journal: EventJournal) -> None:
        super().__init__()
        self._journal = journal
        self._left = [Trial(0, {"burn_in": 10})]

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        return start_trial(self._journal, self._left.pop(), 1, 1, None) if self._left else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


@pytest.fixture
def journal_and_searcher(tmp_path: Path) -> tuple[EventJournal, RestartingSearcher]:
    experiment = Experiment(tmp_path, SearchSettings())
    journal = EventJournal(tmp_path / JOURNAL_FILE)
    journal.subscribe(experiment.apply)
    journal.record(RunStarted(run=1, num_samples=1, rungs=[]))
    return journal, RestartingSearcher(
        OneTrial(journal),
        experiment,
        journal,
        threads=1,
        allowed=ALLOWED,
        room=lambda: ROOM,
        is_over=lambda: False,
    )


def test_a_lost_trial_is_the_next_attempt_from_its_newest_whole_checkpoint(
    journal_and_searcher: tuple[EventJournal, RestartingSearcher], tmp_path: Path
) -> None:
    journal, searcher = journal_and_searcher
    searcher.suggest("first")
    for epoch in (1, 2):
        write_checkpoint(tmp_path / str(epoch), lambda file: file.write(b"state"))
        journal.record(Checkpoint(trial=0, epoch=epoch, path=str(epoch)))
    (tmp_path / "2" / STATE_FILE).write_bytes(b"torn")
    searcher.on_trial_complete("first", error=True)
    assert searcher.take_up_again(0)

    again = searcher.suggest("second")
    assert isinstance(again, dict)
    assert (again["trial"], again["attempt"]) == (0, 2)
    assert again["resume_from"] == str(tmp_path / "1")


def test_a_search_is_not_finished_while_a_trial_that_runs_may_be_lost(
    journal_and_searcher: tuple[EventJournal, RestartingSearcher],
) -> None:
    _, searcher = journal_and_searcher
    searcher.suggest("first")
    assert searcher.suggest("another") is None
    searcher.on_trial_complete("first")
    assert searcher.suggest("another") == Searcher.FINISHED


def test_only_losses_without_a_new_epoch_in_between_count(
    journal_and_searcher: tuple[EventJournal, RestartingSearcher],
) -> None:
    _, searcher = journal_and_searcher
    for _ in range(5):
        assert searcher.take_up_again(0)
        searcher.got_ahead(0)
    assert [searcher.take_up_again(0) for _ in range(ALLOWED + 1)] == [True] * ALLOWED + [False]


def test_no_more_is_proposed_than_there_is_room_for(
    journal_and_searcher: tuple[EventJournal, RestartingSearcher],
) -> None:
    journal, searcher = journal_and_searcher
    searcher.suggest("first")
    for trial, start in enumerate(["second", "third", "fourth"], start=1):
        journal.record(Proposed(trial=trial, config={"burn_in": 10}, attempt=1))
        searcher.take_up_again(trial)
        proposed = searcher.suggest(start)
        assert (proposed is None) == (start == "fourth")
    searcher.on_trial_complete("first")
    assert isinstance(searcher.suggest("fourth"), dict)
