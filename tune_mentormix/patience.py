"""Whether more trials are worth their epochs: a fold over the journal, counting those that brought no gain."""

from __future__ import annotations

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.storage.journal import Event


class Patience:
    """Trials in a row, in the order of their ends, without a better accuracy at the last epoch."""

    def __init__(self, trials: int | None) -> None:
        """`trials` without a better result use it up; None: it lasts for ever."""
        self._trials = trials
        self._since_best = 0
        self._best: float | None = None
        self._latest: dict[int, float] = {}
        self._baselines: set[int] = set()

    @property
    def is_used_up(self) -> bool:
        """Whether no further trial is worth starting."""
        return self._trials is not None and self._since_best >= self._trials

    def apply(self, event: Event) -> None:
        """Takes one event of the journal into account; the baselines, which do not compete, count for nothing."""
        kind, number = event["event"], event.get("trial", -1)
        if kind == "proposed" and event.get("control") in BASELINES:
            self._baselines.add(number)
        if number in self._baselines:
            return
        if kind == "report" and event["val_accuracy"] is not None:
            self._latest[number] = event["val_accuracy"]
        elif kind in ("finished", "stopped", "failed"):
            self._end(self._latest.pop(number, None) if kind == "finished" else None)

    def _end(self, accuracy: float | None) -> None:
        if accuracy is not None and (self._best is None or accuracy > self._best):
            self._best, self._since_best = accuracy, 0
        elif self._best is not None:
            self._since_best += 1
