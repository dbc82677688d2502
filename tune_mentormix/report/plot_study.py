"""Trials as an Optuna study for its plots.

Not the study that the search had: that one counts stopped trials as pruned, and Optuna plots none of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.experiment.experiment import Experiment, Trial

optuna.logging.set_verbosity(optuna.logging.WARNING)

Value = Callable[[Trial], float | None]
Distributions = Mapping[str, BaseDistribution]


def searched_trials(experiment: Experiment, space: SearchSpace | None) -> list[Trial]:
    """The trials within the space, by number; baselines train another method, and are left out."""
    trials = [experiment.trials[number] for number in sorted(experiment.trials)]
    return [
        trial
        for trial in trials
        if space and trial.control not in BASELINES and space.searched_values(trial.config) is not None
    ]


def study_of(
    trials: Iterable[Trial],
    distributions: Distributions | None = None,
    value: Value = lambda trial: trial.val_accuracy,
    metric: str | None = None,
) -> optuna.Study:
    """An in-memory study of the trials, in their order.

    Args:
        trials: numbered anew from 0, as Optuna does.
        distributions: of the hyperparameters to take along; each trial's values must lie inside.
        value: what a trial achieved; those for which it is None count as pruned.
        metric: of the reports, for curves; None: without them, which take most of the time.
    """
    study = optuna.create_study(direction="maximize")
    searched = dict(distributions or {})
    for trial in trials:
        achieved = value(trial)
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED if achieved is None else TrialState.COMPLETE,
                value=achieved,
                params={name: trial.config[name] for name in searched},
                distributions=searched,
                intermediate_values=dict(points(trial, metric)) if metric else {},
            )
        )
    return study


def points(trial: Trial, metric: str) -> list[tuple[int, float]]:
    """Epochs and the metric's values, where it was reported."""
    by_epoch = ((epoch, trial.reports[epoch].get(metric)) for epoch in sorted(trial.reports))
    return [(epoch, value) for epoch, value in by_epoch if value is not None]
