"""The trials of a search as one table: for the terminal, as CSV, and as a data frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tune_mentormix.errors import RequestError, how_to_install, unknown
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.clean_terms import clean_estimates

if TYPE_CHECKING:
    import pandas as pd

    from tune_mentormix.experiment.schemas import CleanEstimate, TrialRecord
    from tune_mentormix.experiment.trial import Trial

CLEAN = "on_clean_labels"  # the column of estimates; left out where no trial has one


class TrialTable:
    """Every trial of a search with its state, accuracy and hyperparameters, by number.

    Attributes:
        columns: names of the columns, in order.
        metric: which the search maximises, one of the columns.
        rows: one for each trial, by column; accuracies are those of a trial's latest epoch.
        estimates: what each trial's accuracy is on clean labels, by number; None where that is not known.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Reads the trials of an experiment."""
        self._trials = experiment.trials
        shown = [trial for _, trial in sorted(experiment.trials.items())]
        numbers = (trial.number for trial in shown)
        self.estimates: dict[int, CleanEstimate | None] = dict(
            zip(numbers, clean_estimates(experiment, shown), strict=True)
        )
        hyperparameters = experiment.hyperparameters
        clean = [CLEAN] if any(self.estimates.values()) else []
        self.metric = experiment.metric
        scores = ["val_accuracy"] if self.metric == "val_accuracy" else [self.metric, "val_accuracy"]
        self.columns = ["trial", "state", "epoch", *scores, *clean, *hyperparameters, "restarts", "note"]
        self.rows = [self._row(trial, hyperparameters) for trial in shown]

    def _row(self, trial: Trial, hyperparameters: Sequence[str]) -> dict[str, Any]:
        estimate = self.estimates[trial.number]
        return {
            "trial": trial.number,
            "state": trial.state,
            "epoch": trial.epoch,
            self.metric: trial.score,
            "val_accuracy": trial.val_accuracy,
            CLEAN: estimate.accuracy if estimate else None,
            **{name: trial.config[name] for name in hyperparameters},
            "restarts": trial.restarts,
            "note": trial.error or (f"control: {trial.control}" if trial.control else ""),
        }

    def sort(self, column: str) -> None:
        """Sorts by a column, accuracies with the best first; empty cells come last. Raises RequestError."""
        if column not in self.columns:
            raise RequestError(unknown("column", column, self.columns) + " (--sort)")
        known = [row for row in self.rows if row[column] is not None]
        known.sort(key=lambda row: row[column], reverse=column in (self.metric, "val_accuracy", CLEAN))
        self.rows = [*known, *(row for row in self.rows if row[column] is None)]

    def limit(self, count: int | None) -> None:
        """Keeps the first rows only; None: all."""
        self.rows = self.rows[:count]

    def records(self) -> list[TrialRecord]:
        """Returns what `trials --json` shows, in the order of the rows."""
        return [
            self._trials[row["trial"]].record().model_copy(update={"clean_estimate": self.estimates[row["trial"]]})
            for row in self.rows
        ]

    def cells(self) -> list[list[Any]]:
        """Returns the rows as lists, in the order of the columns."""
        return [[row[column] for column in self.columns] for row in self.rows]


def data_frame(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> pd.DataFrame:
    """Returns a pandas data frame. Raises RequestError, with how to install it, if there is no pandas."""
    try:
        import pandas as pd
    except ImportError as error:
        raise RequestError(f"a data frame needs pandas: {how_to_install('pandas')}") from error
    return pd.DataFrame(list(rows), columns=list(columns))
