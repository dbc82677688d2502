"""Records in the journal what further trials promise, and ends a search once that is too little."""

from __future__ import annotations

import logging

from tune_mentormix.experiment.events import EventJournal, GainExpected
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.expected_gain import expected_gain

logger = logging.getLogger(__name__)

GROWTH = 1.5  # as many trials have ended since the last forecast; one takes up to half a second


class Forecast:
    """What ten more trials of a search are expected to gain."""

    def __init__(self, experiment: Experiment, until: float | None = None) -> None:
        """`until` is the gain in points below which no further trial is worth starting; None: each is."""
        self._experiment = experiment
        self._until = until
        self._looked = -1  # ended trials

    @property
    def is_reached(self) -> bool:
        """Whether no further trial is worth starting."""
        gain = self._experiment.expected_gain
        return self._until is not None and gain is not None and 100 * gain.mean < self._until

    def update(self, journal: EventJournal) -> None:
        """Makes a forecast if many trials have ended since the last one, or any where the search may end by it."""
        last = self._experiment.expected_gain
        if self._until is not None or last is None or self._experiment.ended_trials() >= GROWTH * last.after:
            self.complete(journal)

    def complete(self, journal: EventJournal) -> None:
        """Makes a forecast if any trial has ended since the last one."""
        ended, last = self._experiment.ended_trials(), self._experiment.expected_gain
        if ended == self._looked or (last is not None and ended == last.after):
            return
        self._looked = ended
        try:
            gain = expected_gain(self._experiment)
        except Exception:  # a search must not fail because of it
            logger.warning("no forecast can be made after %d trials", ended)
            logger.debug("the reason", exc_info=True)
            return
        if gain is not None:
            journal.record(GainExpected(after=ended, **gain._asdict()))
