"""Makes on purpose what a machine that dies at an unlucky moment leaves behind."""

from __future__ import annotations

import os
from pathlib import Path

from trainables.files import STATE_FILE
from tune_mentormix.experiment.experiment import read_experiment


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
        if (path := experiment / folder / STATE_FILE).is_file()  # Tune keeps the newest two
    )
    os.truncate(state, state.stat().st_size // 2)
    return trial.number
