"""Which trials a table shows, and in which order: the same for the API and the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tune_mentormix.experiment.experiment import Experiment, Trial

OWN_COLUMNS = ("trial", "state", "epoch", "val_accuracy", "restarts")


@dataclass(frozen=True)
class TrialQuery:
    """What is asked of the table."""

    sort: str = "trial"  # one of OWN_COLUMNS or a hyperparameter
    descending: bool = False
    state: str | None = None
    at_least: float | None = None  # validation accuracy


def select_trials(experiment: Experiment, query: TrialQuery) -> list[Trial]:
    """The trials asked for, in order; those without a value of the column sorted by come last."""
    trials = [experiment.trials[number] for number in sorted(experiment.trials)]
    if query.state:
        trials = [trial for trial in trials if trial.state == query.state]
    if query.at_least is not None:
        least = query.at_least
        trials = [trial for trial in trials if trial.val_accuracy is not None and trial.val_accuracy >= least]
    keyed = [(_key(trial, query.sort), trial) for trial in trials]
    known = sorted(((key, trial) for key, trial in keyed if key), key=lambda item: item[0], reverse=query.descending)
    return [trial for _, trial in known] + [trial for key, trial in keyed if not key]


def _key(trial: Trial, column: str) -> tuple[Any, ...]:
    """Numbers before text; nothing for no value."""
    own = {
        "trial": trial.number,
        "state": trial.state,
        "epoch": trial.epoch,
        "restarts": trial.attempt - 1,
    }
    value: Any = trial.val_accuracy if column == "val_accuracy" else own.get(column, trial.config.get(column))
    if value is None:
        return ()
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))
