"""Which trial comes next: Ray's `Searcher` interface before the study; each proposal goes to the journal first.

The order is: trials that an earlier run left unfinished (under their old numbers), the controls, those given to start
from, then the sampler's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from trainables.settings import TrialSettings
from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.experiment.events import EventJournal, Proposed
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.search.stopper import Patience
from tune_mentormix.search.study import SearchStudy


class MentorMixSearcher(Searcher):
    """Proposes `num_samples` trials in all; what Tune reports back reaches the study through the journal."""

    def __init__(
        self,
        experiment: Experiment,
        journal: EventJournal,
        study: SearchStudy,
        space: SearchSpace,
        common: dict[str, Any],
        threads: int,
        controls: dict[str, dict[str, Any]],
        first_trials: list[dict[str, Any]],
        unfinished: list[tuple[Trial, str | None]],
        patience: Patience,
    ) -> None:
        """Prepares the order of trials.

        Args:
            experiment: kept up to date by the journal.
            journal: where proposals are written.
            study: proposes the parameters.
            space: what is searched; its fixed values go into every trial.
            common: the trial settings that all trials share, such as `epochs`.
            threads: of torch in a trial.
            controls: name → what it sets.
            first_trials: what the sampler's first trials are preceded by.
            unfinished: trials to go on with first, each with its checkpoint's folder, if one is whole.
            patience: once it is used up, nothing new is proposed.
        """
        super().__init__()
        self._experiment = experiment
        self._journal = journal
        self._study = study
        self._space = space
        self._common = common
        self._threads = threads
        self._unfinished = list(unfinished)
        self._patience = patience
        given = [trial.control for trial in experiment.trials.values() if trial.given]
        first_left = first_trials[given.count(None) :]
        self._given: list[tuple[str | None, dict[str, Any]]] = [
            *((name, values) for name, values in controls.items() if name not in given),
            *((None, values) for values in first_left),
        ]

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # FINISHED is a string
        """The next trial's configuration as Tune hands it to the trainable, or FINISHED."""
        if self._unfinished:
            return self._go_on(*self._unfinished.pop(0))
        number = len(self._experiment.trials)
        is_enough = self._patience.is_used_up or (not self._given and self._study.is_exhausted)
        if number >= self._experiment.num_samples or is_enough:
            return str(Searcher.FINISHED)
        if self._given:
            control, values = self._given.pop(0)
            trial = Trial(number, self._config(values), control, given=True)
            self._study.enter(trial)
            return self._start(trial)
        return self._start(Trial(number, self._config(self._study.propose(number))))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the study reads the journal."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is the state."""

    def _config(self, values: dict[str, Any]) -> dict[str, Any]:
        return TrialSettings(**(self._common | self._space.fixed | values)).model_dump()

    def _start(self, trial: Trial, checkpoint: str | None = None) -> dict[str, Any]:
        return start_trial(self._journal, trial, self._experiment.runs, self._threads, checkpoint)

    def _go_on(self, trial: Trial, checkpoint: str | None) -> dict[str, Any]:
        self._study.enter(trial)
        return self._start(replace(trial, attempt=trial.attempt + 1), checkpoint)


def start_trial(
    journal: EventJournal, trial: Trial, run: int, threads: int, checkpoint: str | None
) -> dict[str, Any]:
    """Writes down that a trial starts, and returns what Tune hands to the trainable.

    Args:
        journal: of the experiment.
        trial: with the number of this attempt.
        run: of the experiment, from 1.
        threads: of torch on a CPU.
        checkpoint: the folder of the one to go on from, if any.
    """
    journal.record(
        Proposed(
            trial=trial.number,
            run=run,
            attempt=trial.attempt,
            control=trial.control,
            given=trial.given,
            config=trial.config,
        )
    )
    return {
        "trial": trial.number,
        "attempt": trial.attempt,
        "settings": trial.config,
        "resume_from": checkpoint,
        "threads": threads,
    }
