"""The one searcher that Ray sees: it takes the next proposal, and retries trials whose worker died.

Tune could retry a trial itself, but it would resume from a checkpoint that may be truncated, write where the lost
worker may still be writing, and fail the trial at once if the worker dies between two trials. So Tune retries
nothing: a lost trial comes back through the searcher as a new attempt, in its own folder, from the newest intact
checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ray.tune.search import Searcher

from trainables.data import Dataset
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.checkpoints import newest_checkpoint
from tune_mentormix.experiment.events import EventJournal, Proposed
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.search.stopper import SearchStopper


@dataclass(frozen=True)
class TrialStart:
    """A trial to start, with the number of the attempt, and the checkpoint to resume from."""

    trial: Trial
    checkpoint: str | None = None


@dataclass(frozen=True)
class Run:
    """The objects that the parts of one Tune run share."""

    experiment: Experiment
    """Kept up to date by the journal."""
    journal: EventJournal
    settings: SearchSettings
    dataset: Dataset
    on_progress: Callable[[Experiment], None]
    """Called after every event and at every turn of Tune's loop."""
    unfinished: list[TrialStart] = field(default_factory=list)
    """Trials that an earlier run left unfinished; they run first."""


def next_attempt(experiment: Experiment, trial: Trial) -> TrialStart:
    """The trial's next attempt, from its newest intact checkpoint. Raises OSError if the storage cannot be read."""
    return TrialStart(replace(trial, attempt=trial.attempt + 1), newest_checkpoint(experiment, trial))


class JournaledSearcher(Searcher):
    """Starts no trial before it is in the journal, and is not finished while a running trial may be lost.

    A trial's worker may be lost `max_restarts` times without a new epoch in between. So machines that come and go do
    not use a trial up while it makes progress; a trial that kills its own worker (out of host memory, for example)
    does so at the same epoch every time, and fails.
    """

    def __init__(
        self,
        run: Run,
        proposals: Iterator[TrialStart | None],
        stopper: SearchStopper,
        max_concurrent: Callable[[], int],
    ) -> None:
        """Starts with nothing running.

        Args:
            run: whose journal gets each proposal.
            proposals: the trials in their order; None while the next one waits for results.
            stopper: updated at each call: while nothing runs, Tune asks only the searcher.
            max_concurrent: how many trials may run, so that each new proposal can use all results so far.
        """
        super().__init__()
        self._run = run
        self._proposals = proposals
        self._stopper = stopper
        self._max_concurrent = max_concurrent
        self._losses: Counter[int] = Counter()  # since the trial's last new epoch
        self._lost: list[int] = []
        self._moved: set[int] = set()
        self._running: set[str] = set()
        self._recorded: dict[str, Any] | None = None  # of the next trial, which may wait for the storage

    def reset_losses(self, trial: int) -> None:
        """Forgets the lost workers of a trial that made progress."""
        self._losses.pop(trial, None)

    def move(self, trial: int) -> None:
        """Announces that a trial's worker ends on purpose, so that the trial continues elsewhere."""
        self._moved.add(trial)

    def retry(self, trial: int) -> bool:
        """Makes a trial whose worker was lost the next to start; returns False if this was once too often."""
        if trial in self._moved:
            self._moved.remove(trial)
            self._lost.append(trial)
            return True
        self._losses[trial] += 1
        if self._losses[trial] > self._run.settings.max_restarts:
            return False
        self._lost.append(trial)
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """The next trial as Tune hands it to the trainable; None while there may be one later; or FINISHED."""
        if self._running and len(self._running) >= self._max_concurrent():
            return None
        self._stopper.update()
        if self._stopper.reason:
            return str(Searcher.FINISHED)
        if self._recorded is None and self._run.journal.is_flushed:
            try:
                start = self._next_start()
            except OSError:  # the storage does not tell which checkpoints there are: ask again later
                return None
            if start is None:
                return None if self._running else str(Searcher.FINISHED)
            self._recorded = self._record(start)
        if not self._run.journal.is_flushed:
            return None
        proposed, self._recorded = self._recorded, None
        self._running.add(trial_id)
        return proposed

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Frees the place of one attempt; how the trial ended is in the journal."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: the journal is the state."""

    def _next_start(self) -> TrialStart | None:
        if not self._lost:
            return next(self._proposals, None)
        start = next_attempt(self._run.experiment, self._run.experiment.trials[self._lost[0]])
        self._lost.pop(0)
        return start

    def _record(self, start: TrialStart) -> dict[str, Any]:
        """Records that a trial starts, and returns what Tune hands to the trainable."""
        trial = start.trial
        only_in_folds: dict[str, Any] = {} if trial.fold is None else {"fold": trial.fold}
        self._run.journal.record(
            Proposed(
                trial=trial.number,
                run=self._run.experiment.runs,
                attempt=trial.attempt,
                control=trial.control,
                enqueued=trial.enqueued,
                config=trial.config,
                **only_in_folds,
            )
        )
        return {
            "trial": trial.number,
            "attempt": trial.attempt,
            "settings": trial.config,
            "fold": trial.fold or 0,
            "resume_from": start.checkpoint,
        }
