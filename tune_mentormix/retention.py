"""Which checkpoints of a trial stay: the newest ones.

Tune could delete them, but would then write the state of all trials to the storage at every second checkpoint, which
takes the longer the more trials there are.
"""

from __future__ import annotations

import logging
from collections import Counter

from tune_mentormix.experiment.experiment import KEPT, Experiment
from tune_mentormix.storage.paths import remove_folder

logger = logging.getLogger(__name__)


class Retention:
    """Deletes a trial's old checkpoints, whichever attempt wrote them."""

    def __init__(self, experiment: Experiment) -> None:
        """Starts with everything there; the recorder keeps `experiment` up to date."""
        self._experiment = experiment
        self._looked_at: Counter[int] = Counter()  # trial → of its checkpoints, how many from the oldest on

    def prune(self, number: int) -> None:
        """Deletes what the trial's newest checkpoints replace. A storage in trouble keeps what it has."""
        checkpoints = self._experiment.trials[number].checkpoints
        for _, path in checkpoints[self._looked_at[number] : -KEPT]:
            self._looked_at[number] += 1
            try:
                remove_folder(self._experiment.path / path)
            except OSError as error:
                logger.warning("an old checkpoint stays: %s", error)


def trial_folder(number: int, attempt: int) -> str:
    """One an attempt: behind a cut network the worker of an earlier one may still be writing."""
    return f"trial-{number:04d}" if attempt == 1 else f"trial-{number:04d}-attempt-{attempt}"
