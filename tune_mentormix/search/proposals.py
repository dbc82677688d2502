"""Proposes the next trial of a search: unfinished ones, the controls, warm starts, then the sampler's choices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainables.settings import TrialSettings
from tune_mentormix.config.controls import control_configs, published_row
from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.search.forecast import Forecast
from tune_mentormix.search.searcher import Run, TrialStart
from tune_mentormix.search.stopper import Plateau
from tune_mentormix.search.study import SearchStudy


def search_proposals(
    run: Run, study: SearchStudy, space: SearchSpace, plateau: Plateau, forecast: Forecast
) -> Iterator[TrialStart | None]:
    """Trials in the order in which they run; None while a running one may still change that nothing is left to try.

    Args:
        run: its experiment's `num_samples` counts all trials, those of earlier runs too.
        study: proposes the hyperparameters once the controls and warm starts have been proposed.
        space: what is searched; its fixed values go into every trial.
        plateau: once it is reached, nothing new is proposed.
        forecast: is kept up to date; once it is reached, nothing new is proposed either.
    """
    for start in run.unfinished:
        study.enqueue(start.trial)
        yield start
    experiment, common = run.experiment, run.settings.common_trial_settings() | space.fixed
    enqueued = _enqueued(run)
    while len(experiment.trials) < experiment.num_samples:
        forecast.update(run.journal)
        number = max(experiment.trials, default=-1) + 1  # a journal that was repaired may lack some
        if row := _nearer_published_row(run):
            enqueued.insert(0, ("published", row))
        elif plateau.is_reached or forecast.is_reached or (study.is_exhausted and not enqueued):
            yield None
            continue
        if enqueued:
            control, values = enqueued.pop(0)
            trial = Trial(number, TrialSettings(**(common | values)).model_dump(), control, enqueued=True)
            study.enqueue(trial)
            yield TrialStart(trial)
        elif number == experiment.num_samples - 1 and _may_need_another_row(run):
            yield None  # the last trial is kept for it
        else:
            values = study.propose(number)
            yield TrialStart(Trial(number, TrialSettings(**(common | values)).model_dump()))


def _enqueued(run: Run) -> list[tuple[str | None, dict[str, Any]]]:
    """The controls and warm starts that were not proposed yet: the control's name, and what is set."""
    controls = control_configs(run.settings.controls, len(run.dataset.class_names))
    proposed = [trial.control for trial in run.experiment.trials.values() if trial.enqueued]
    warm_starts = run.settings.first_trials[proposed.count(None) :]
    return [
        *((name, values) for name, values in controls.items() if name not in proposed),
        *((None, values) for values in warm_starts),
    ]


def _nearer_published_row(run: Run) -> dict[str, Any] | None:
    """The published values for the noise rate that the control `published` showed, if it trained with other ones."""
    published = _published(run)
    if len(published) != 1 or published[0].noise is None:
        return None
    values = control_configs(["published"], len(run.dataset.class_names), published[0].noise.rate)["published"]
    return None if published_row(values) == published_row(published[0].config) else values


def _may_need_another_row(run: Run) -> bool:
    """Whether the noise rate is still to be estimated from the control `published`."""
    published = _published(run)
    return len(published) == 1 and not published[0].has_ended and run.dataset.validation_labels_kind == "noisy"


def _published(run: Run) -> list[Trial]:
    return [trial for trial in run.experiment.trials.values() if trial.control == "published"]
