"""Asynchronous Hyperband (Li et al. 2018, 2020): brackets of rungs, of which each begins later than the one before.

Where early epochs mislead, the later brackets still judge well; where they do not, the first bracket saves most.
"""

from __future__ import annotations

from tune_mentormix.journal import Event
from tune_mentormix.rungs import Rungs


class Brackets:
    """Each trial belongs to one bracket, and is compared with that bracket's trials only."""

    def __init__(self, epochs: list[int], factor: float) -> None:
        """A bracket from each of these epochs on, and one that stops nobody.

        Args:
            epochs: of the first bracket's rungs.
            factor: at each rung, the best 1 in `factor` go on.
        """
        self.epochs = epochs
        rungs = len(epochs)
        self._brackets = [Rungs(epochs[start:], factor) for start in range(rungs + 1)]
        # Hyperband's numbers of trials: all brackets cost about the same epochs.
        self._shares = [(rungs + 1) / (rungs - start + 1) * factor ** (rungs - start) for start in range(rungs + 1)]
        self._members = [0] * (rungs + 1)
        self._bracket_of: dict[int, int] = {}

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account; a trial joins its bracket when it is proposed."""
        number = event.get("trial")
        if number is None:
            return
        if event["event"] == "proposed" and number not in self._bracket_of and not event.get("control"):
            self._join(number)
        bracket = self._bracket_of.get(number)
        if bracket is not None:
            self._brackets[bracket].apply(event)

    def goes_on(self, trial: int, epoch: int, accuracy: float) -> bool:
        """Notes a report and says whether the trial goes on; controls always do."""
        bracket = self._bracket_of.get(trial)
        return bracket is None or self._brackets[bracket].goes_on(trial, epoch, accuracy)

    def stopped(self, trial: int) -> bool:
        """Whether a rung of its bracket stopped the trial."""
        bracket = self._bracket_of.get(trial)
        return bracket is not None and self._brackets[bracket].stopped(trial)

    def _join(self, number: int) -> None:
        """The bracket that lacks most of its share takes the trial: the same one whenever the journal is replayed."""
        filled = [(members + 1) / share for members, share in zip(self._members, self._shares, strict=True)]
        bracket = filled.index(min(filled))
        self._members[bracket] += 1
        self._bracket_of[number] = bracket
