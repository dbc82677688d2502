"""What a driver killed at an unlucky moment leaves behind, made on purpose."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trainables.manifest import STATE_FILE
from tune_mentormix.experiment import read_experiment
from tune_mentormix.journal import JOURNAL_FILE


def cut_after_last_proposal(experiment: Path) -> int:
    """Cuts the journal off after the newest first proposal of a trial, as if the driver had died right then.

    Returns:
        The trial's number.
    """
    journal = experiment / JOURNAL_FILE
    lines = journal.read_bytes().splitlines(keepends=True)
    events = [json.loads(line) for line in lines if line.endswith(b"\n")]
    last = max(n for n, event in enumerate(events) if event["event"] == "proposed" and event["attempt"] == 1)
    journal.write_bytes(b"".join(lines[: last + 1]))
    return int(events[last]["trial"])


def tear_newest_checkpoint(experiment: Path) -> int:
    """Cuts the state of the newest checkpoint of an unfinished trial in half.

    Returns:
        The trial's number.
    """
    read = read_experiment(experiment.parent, experiment.name)
    trial = next(trial for trial in read.unfinished() if trial.checkpoints)
    state = next(
        path
        for _, folder in reversed(trial.checkpoints)
        if (path := read.path / folder / STATE_FILE).is_file()  # Tune keeps the newest two
    )
    os.truncate(state, state.stat().st_size // 2)
    return trial.number
