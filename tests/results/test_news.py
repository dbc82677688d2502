"""Which changes of a search people are told of, and which not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tune_mentormix.experiment.schemas import BestTrial, SearchOverview, TrialCounts
from tune_mentormix.results.news import SearchNews
from tune_mentormix.storage.waiting import StorageWait

BEST = BestTrial(trial_id=3, val_accuracy=0.8731, epoch=40, config={"mixup_alpha": 8.0, "burn_in": 10})
WAIT = StorageWait(since=0.0, reason="the journal cannot be written: No space left on device")


def overview(state: str = "running", finished: int = 1, **more: Any) -> SearchOverview:
    return SearchOverview.model_validate(
        {"name": "birds", "state": state, "trials": TrialCounts(finished=finished), "num_samples": 9} | more
    )


def titles(before: SearchOverview, *after: SearchOverview) -> list[str]:
    news = SearchNews(Path("results"), before)
    return [message.title for now in after for message in news.update(now)]


def test_a_new_best_is_told_once_and_only_if_it_ran_to_its_end() -> None:
    news = SearchNews(Path("results"), overview())
    assert news.update(overview(finished=0, best=BEST)) == []
    (message,) = news.update(overview(best=BEST))
    assert message == (
        "best",
        "birds: a new best",
        "Best of 1 finished trials: 0.8731 on noisy validation labels (mixup_alpha 8, burn_in 10).",
    )
    assert news.update(overview(best=BEST, finished=2)) == []
    assert len(news.update(overview(best=BEST.model_copy(update={"trial_id": 4}), finished=3))) == 1


@pytest.mark.parametrize(
    ("state", "ended", "title"),
    [
        ("finished", "finished", "birds ended (finished)"),
        ("finished", "time_budget", "birds ended (time budget)"),
        ("interrupted", "interrupted", "birds was interrupted"),
        ("interrupted", None, "birds failed: its driver died"),
        ("interrupted", "ray_lost", "birds failed: its Ray cluster was lost"),
        ("interrupted", "storage", "birds failed: its storage failed for long"),
        ("finished", "all_failing", "birds failed: every trial fails"),
    ],
)
def test_every_end_is_told(state: str, ended: str | None, title: str) -> None:
    assert titles(overview(), overview(state, ended=ended), overview(state, ended=ended)) == [title]


def test_the_end_names_the_command_that_goes_on() -> None:
    (message,) = SearchNews(Path("elsewhere"), overview()).update(overview("interrupted", ended="interrupted"))
    assert message.body.startswith("No trial has a result. Next: ")
    assert message.body.endswith("resume birds --storage elsewhere")
    (message,) = SearchNews(Path("results"), overview()).update(overview("finished", ended="finished"))
    assert message.body.endswith("report birds")


def test_a_wait_for_the_storage_is_told_when_it_begins_and_when_it_is_over() -> None:
    waiting = overview(waiting=WAIT)
    expected = ["birds waits for its storage", "birds goes on"]
    assert titles(overview(), waiting, waiting, overview()) == expected


def test_what_had_ended_before_is_no_news() -> None:
    assert titles(overview("finished", ended="finished"), overview("finished", ended="finished")) == []
