"""Which trial of a search comes next: unfinished ones, the controls, warm starts, then the sampler's choices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainables.settings import TrialSettings
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.experiment.experiment import Trial
from tune_mentormix.search.searcher import Run, TrialStart
from tune_mentormix.search.stopper import Plateau
from tune_mentormix.search.study import SearchStudy


def search_proposals(
    run: Run, study: SearchStudy, space: SearchSpace, plateau: Plateau
) -> Iterator[TrialStart | None]:
    """Trials in the order in which they run; None while a running one may still change that nothing is left to try.

    Args:
        run: its experiment's `num_samples` counts all trials, those of earlier runs too.
        study: proposes the hyperparameters once the controls and warm starts have been proposed.
        space: what is searched; its fixed values go into every trial.
        plateau: once it is reached, nothing new is proposed.
    """
    for start in run.unfinished:
        study.enqueue(start.trial)
        yield start
    experiment, common = run.experiment, run.settings.common_trial_settings() | space.fixed
    enqueued = _enqueued(run)
    while (number := len(experiment.trials)) < experiment.num_samples:
        if plateau.is_reached or (study.is_exhausted and not enqueued):
            yield None
        elif enqueued:
            control, values = enqueued.pop(0)
            trial = Trial(number, TrialSettings(**(common | values)).model_dump(), control, enqueued=True)
            study.enqueue(trial)
            yield TrialStart(trial)
        else:
            values = study.propose(number)
            yield TrialStart(Trial(number, TrialSettings(**(common | values)).model_dump()))


def _enqueued(run: Run) -> list[tuple[str | None, dict[str, Any]]]:
    """The controls and warm starts that were not proposed yet: the control's name, and what is set."""
    controls = control_configs(run.dataset.noise_rate, len(run.dataset.class_names))
    proposed = [trial.control for trial in run.experiment.trials.values() if trial.enqueued]
    warm_starts = run.settings.first_trials[proposed.count(None) :]
    return [
        *((name, values) for name, values in controls.items() if name not in proposed),
        *((None, values) for values in warm_starts),
    ]
