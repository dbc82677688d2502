"""What is proposed after a worker was lost; with real workers, `test_interruptions` and `tests/faults` show it."""

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from trainables.checkpoint_manifest import STATE_FILE, write_whole
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.search.callbacks import Recorder
from tune_mentormix.search.proposals import start_trial
from tune_mentormix.search.searcher import RestartingSearcher
from tune_mentormix.storage.journal import JOURNAL_FILE, Journal

ALLOWED, ROOM = 2, 3


class OneTrial(Searcher):
    """Proposes trial 0, and is finished."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._left = [Trial(0, {"burn_in": 10})]

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        return start_trial(self._recorder, self._left.pop(), 1, 1, None) if self._left else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


@pytest.fixture
def recorder_and_searcher(tmp_path: Path) -> tuple[Recorder, RestartingSearcher]:
    experiment = Experiment(tmp_path, SearchSettings())
    recorder = Recorder(Journal(tmp_path / JOURNAL_FILE), [experiment])
    recorder.record("run_started", run=1, num_samples=1, rungs=[])
    return recorder, RestartingSearcher(
        OneTrial(recorder),
        experiment,
        recorder,
        threads=1,
        allowed=ALLOWED,
        room=lambda: ROOM,
        is_over=lambda: False,
    )


def test_a_lost_trial_is_the_next_attempt_from_its_newest_whole_checkpoint(
    recorder_and_searcher: tuple[Recorder, RestartingSearcher], tmp_path: Path
) -> None:
    recorder, searcher = recorder_and_searcher
    searcher.suggest("first")
    for epoch in (1, 2):
        write_whole(tmp_path / str(epoch), lambda file: file.write(b"state"))
        recorder.record("checkpoint", trial=0, epoch=epoch, path=str(epoch))
    (tmp_path / "2" / STATE_FILE).write_bytes(b"torn")
    searcher.on_trial_complete("first", error=True)
    assert searcher.take_up_again(0)

    again = searcher.suggest("second")
    assert isinstance(again, dict)
    assert (again["trial"], again["attempt"]) == (0, 2)
    assert again["resume_from"] == str(tmp_path / "1")


def test_a_search_is_not_finished_while_a_trial_that_runs_may_be_lost(
    recorder_and_searcher: tuple[Recorder, RestartingSearcher],
) -> None:
    _, searcher = recorder_and_searcher
    searcher.suggest("first")
    assert searcher.suggest("another") is None
    searcher.on_trial_complete("first")
    assert searcher.suggest("another") == Searcher.FINISHED


def test_only_losses_without_a_new_epoch_in_between_count(
    recorder_and_searcher: tuple[Recorder, RestartingSearcher],
) -> None:
    _, searcher = recorder_and_searcher
    for _ in range(5):
        assert searcher.take_up_again(0)
        searcher.got_ahead(0)
    assert [searcher.take_up_again(0) for _ in range(ALLOWED + 1)] == [True] * ALLOWED + [False]


def test_no_more_is_proposed_than_there_is_room_for(
    recorder_and_searcher: tuple[Recorder, RestartingSearcher],
) -> None:
    recorder, searcher = recorder_and_searcher
    searcher.suggest("first")
    for trial, start in enumerate(["second", "third", "fourth"], start=1):
        recorder.record("proposed", trial=trial, config={"burn_in": 10}, attempt=1)
        searcher.take_up_again(trial)
        proposed = searcher.suggest(start)
        assert (proposed is None) == (start == "fourth")
    searcher.on_trial_complete("first")
    assert isinstance(searcher.suggest("fourth"), dict)
