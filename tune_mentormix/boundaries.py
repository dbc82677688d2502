"""Where population-based training pauses its trials, for `population` to decide how they go on."""

from __future__ import annotations

from tune_mentormix.journal import Event


class Boundaries:
    """The stopping rule of a population: pauses members at every boundary and stops nobody for good."""

    def __init__(self, first: int, epochs: int) -> None:
        """Boundaries after `first` epochs and then every tenth of a trial."""
        self.epochs = list(range(first, epochs, max(1, epochs // 10)))
        self._controls: set[int] = set()

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account."""
        if event["event"] == "proposed" and event.get("control"):
            self._controls.add(event["trial"])

    def goes_on(self, trial: int, epoch: int, accuracy: float) -> bool:
        """Whether the trial goes on without a pause."""
        return trial in self._controls or epoch not in self.epochs

    def stopped(self, trial: int) -> bool:
        """Nobody is."""
        return False
