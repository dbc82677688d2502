"""The journal's events as they are written and read back."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.events import (
    Event,
    EventJournal,
    Failed,
    Proposed,
    Report,
    parse_event,
    read_events,
    replay,
)
from tune_mentormix.experiment.experiment import Experiment

LINES = [
    '{"time":1.0,"event":"run_started","run":1,"num_samples":2,"rungs":[3],"cpus_per_trial":1.0,"gpus_per_trial":0.0}',
    '{"time":1.5,"event":"proposed","trial":0,"run":1,"attempt":1,"control":null,"given":false,"config":{"burn_in":10}}',
    '{"time":2.0,"event":"report","trial":0,"attempt":1,"node":"a","epoch":1,"val_accuracy":1e-05,"val_loss":null}',
    '{"time":2.5,"event":"checkpoint","trial":0,"attempt":1,"epoch":1,"path":"runs/1/trial-0000/checkpoint_000000"}',
    '{"time":3.0,"event":"stopped","trial":0,"epoch":1}',
    '{"time":3.5,"event":"failed","trial":0,"node":"a","error":"val_loss is nan","worker_lost":false}',
    '{"time":4.0,"event":"ruled_out","rounds":null,"candidates":{"trial 3":"failed on seed 1"}}',
    '{"time":4.5,"event":"run_ended","run":1,"reason":"finished"}',
]


def test_an_event_is_written_with_the_keys_of_its_line_in_their_order(tmp_path: Path) -> None:
    read: list[Event] = []
    with closing(EventJournal(tmp_path / "journal.jsonl")) as journal:
        journal.subscribe(read.append)
        for line in LINES:
            journal.record(parse_event(json.loads(line)))
    written = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert [line.split(",", 1)[1] for line in written] == [line.split(",", 1)[1] for line in LINES]
    assert list(read_events(tmp_path / "journal.jsonl")) == read


def test_nan_reaches_the_subscribers_as_a_reader_will_see_it(tmp_path: Path) -> None:
    read: list[Event] = []
    with closing(EventJournal(tmp_path / "journal.jsonl")) as journal:
        journal.subscribe(read.append)
        journal.record(Report(trial=0, epoch=1, val_accuracy=float("nan")))
    assert isinstance(read[0], Report)
    assert read[0].val_accuracy is None


def test_what_older_journals_lack_has_a_default_and_what_is_unknown_is_kept() -> None:
    proposed = parse_event({"event": "proposed", "trial": 0, "config": {}, "control": "plain", "mood": "good"})
    assert isinstance(proposed, Proposed)
    assert (proposed.is_enqueued, proposed.model_extra) == (True, {"mood": "good"})
    failed_early = parse_event({"event": "checkpoint", "trial": 0, "epoch": 0, "path": "runs/1/trial-0000/a"})
    assert failed_early.model_dump()["epoch"] == 0  # of a trial that failed in its first epoch
    assert parse_event({"event": "failed", "trial": 0}) == Failed(trial=0, error="", worker_lost=False)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"event": "report", "trial": 0}, "line 2 is not a journal event: epoch is missing; .*`repair "),
        ({"event": "dance", "trial": 0}, "line 2 is not a journal event: .*'dance'"),
        ({"event": "proposed", "trial": 1, "config": 3}, "line 2 is not a journal event: config must be a mapping"),
        ({"event": "proposed", "trial": 1, "config": {"mixup_alpha": "x"}}, "config: mixup_alpha must be a number"),
        (
            {"event": "report", "trial": 0, "epoch": 1, "val_accuracy": 7.5},
            r"must be a number in \[0, 1\], got 7.5",
        ),
        (
            {"event": "report", "trial": 0, "epoch": -6, "val_accuracy": 0.5},
            "of at least 1, got -6",
        ),
        ({"event": "report", "trial": 0, "epoch": "1", "val_accuracy": 0.5}, "epoch must be a whole number"),
        ({"event": "report", "trial": True, "epoch": 1, "val_accuracy": 0.5}, "trial must be a whole number"),
        (
            {"event": "report", "trial": 0, "epoch": 1, "val_accuracy": 0.5, "val_loss": [1]},
            "val_loss must be a number",
        ),
        ({"event": "run_started", "num_samples": -6}, "num_samples must be a whole number of at least 1, got -6"),
        ({"event": "checkpoint", "trial": 0, "epoch": 1, "path": "../../x"}, "path: must be a path within"),
        ({"trial": 0}, "line 2 is not a journal event: it names no event"),
        ([1], "line 2 is not a journal event: it names no event"),
        ({"event": "finished", "trial": 7}, "line 2 makes no sense: trial 7 was never proposed"),
    ],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, entry: dict[str, Any], complaint: str) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text(LINES[0] + "\n" + json.dumps(entry) + "\n")
    with pytest.raises(RequestError, match=complaint) as error:
        replay(journal, Experiment(tmp_path, SearchSettings()).apply)
    assert "\n" not in str(error.value)
