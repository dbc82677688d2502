"""Taking up a trial again whose worker was lost: as a new attempt, proposed by the driver, like a resume does it.

Tune could restart the trial itself, but what it would go on from may be torn, it would write where the lost worker
may still be writing, and it gives a trial up at once if the worker dies between two trials. So Tune is told to retry
nothing, and a lost trial comes back through the searcher: a new attempt, in a folder of its own, from the newest
checkpoint that is whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from tune_mentormix.experiment.events import EventJournal
from tune_mentormix.experiment.experiment import Experiment, newest_checkpoint
from tune_mentormix.search.proposals import start_trial


class RestartingSearcher(Searcher):
    """Before any other searcher: proposes lost trials again, and is not finished while one that runs may be lost.

    While the journal cannot be written, it proposes nothing, and keeps back a proposal that the journal lacks: no
    trial runs that a resume would not know.

    A trial's worker may be lost `allowed` times without a new epoch in between. So machines that come and go do not
    use a trial up, as long as it gets ahead; one that takes its own worker down (out of the host's memory, say) does
    at the same epoch every time, and fails.
    """

    def __init__(
        self,
        searcher: Searcher,
        experiment: Experiment,
        journal: EventJournal,
        threads: int,
        allowed: int,
        room: Callable[[], int],
        is_over: Callable[[], bool],
    ) -> None:
        """Stands before `searcher`; `experiment`, `journal` and `threads` are what `start_trial` needs.

        `room` says how many trials can run at once: each next proposal then knows all results so far.
        `is_over` says whether the run is to end: while nothing runs, Tune asks nobody but the searcher.
        """
        super().__init__()
        self.allowed = allowed
        self._searcher = searcher
        self._room = room
        self._is_over = is_over
        self._experiment = experiment
        self._journal = journal
        self._threads = threads
        self._losses: Counter[int] = Counter()  # since the trial's last new epoch
        self._lost: list[int] = []
        self._running: set[str] = set()
        self._held: dict[str, Any] | None = None  # proposed, and not stored yet

    def got_ahead(self, trial: int) -> None:
        """The trial reports an epoch for the first time."""
        self._losses.pop(trial, None)

    def take_up_again(self, trial: int) -> bool:
        """The trial's worker was lost; makes it the next to be proposed, unless this was once too often."""
        self._losses[trial] += 1
        again = self._losses[trial] <= self.allowed
        if again:
            self._lost.append(trial)
        return again

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """The next trial as Tune hands it to the trainable; None while there may be one later; or FINISHED."""
        if self._running and len(self._running) >= self._room():
            return None
        if self._is_over():
            return str(Searcher.FINISHED)
        try:
            proposed = self._held or self._next(trial_id)
        except OSError:  # of the storage, looking for checkpoints: later
            return None
        if isinstance(proposed, str):
            return None if self._running else proposed
        if proposed is not None and not self._journal.is_flushed:
            self._held, proposed = proposed, None
        elif proposed is not None:
            self._held = None
            self._running.add(trial_id)
        return proposed

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune is through with one start of a trial."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._journal.is_flushed:
            return None
        return self._go_on() if self._lost else self._inner(trial_id)

    def _inner(self, trial_id: str) -> dict[str, Any] | str | None:
        return self._searcher.suggest(trial_id)

    def _go_on(self) -> dict[str, Any]:
        trial = self._experiment.trials[self._lost[0]]
        checkpoint = newest_checkpoint(self._experiment, trial)
        self._lost.pop(0)
        again = replace(trial, attempt=trial.attempt + 1)
        return start_trial(self._journal, again, self._experiment.runs, self._threads, checkpoint)
