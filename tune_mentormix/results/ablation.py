"""The best configuration's ablation: each hyperparameter that was searched, moved back to the published value, alone.

The runs are trained in full on the best trial's own seed, so each is compared with it on the same data in the same
order. They lie in `<experiment>/ablation/trial-<best>/`, an experiment of its own with its own journal: interrupted,
it goes on. One seed tells large effects from none, not small ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tune_mentormix.experiment.events import replay
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.storage.journal import JOURNAL_FILE

ABLATION_FOLDER = "ablation"


@dataclass(frozen=True)
class AblationRow:
    """One hyperparameter moved back."""

    name: str
    best_value: Any
    published_value: Any
    val_accuracy: float | None  # at the last epoch; None until the run finished
    change: float | None  # of the accuracy against the best's, as a share


def read_ablation(experiment: Experiment) -> Experiment | None:
    """The runs of the present best trial's ablation, if it was begun."""
    best = experiment.best()
    if best is None:
        return None
    ablation = empty_ablation(experiment, best)
    replay(ablation.path / JOURNAL_FILE, ablation.apply)
    return ablation if ablation.runs else None


def empty_ablation(experiment: Experiment, best: Trial) -> Experiment:
    """Where the ablation of a trial lies, nothing read yet."""
    path = experiment.path / ABLATION_FOLDER / f"trial-{best.number:04d}"
    return Experiment(path, experiment.settings, experiment.provenance)


def ablated_configs(best: dict[str, Any], published: dict[str, Any], searched: list[str]) -> list[dict[str, Any]]:
    """The best configuration with one hyperparameter after the other moved back; those that agree are left out."""
    return [best | {name: published[name]} for name in searched if best[name] != published[name]]


def ablation_rows(ablation: Experiment, best: Trial) -> list[AblationRow]:
    """What each hyperparameter is worth, the most harmful move first."""
    rows = [_row(trial, best) for trial in ablation.trials.values()]
    return sorted(rows, key=lambda row: row.change if row.change is not None else 1.0)


def _row(trial: Trial, best: Trial) -> AblationRow:
    name = next(key for key in best.config if trial.config[key] != best.config[key])
    accuracy = trial.val_accuracy if trial.state == "finished" else None
    change = None if accuracy is None or best.val_accuracy is None else accuracy - best.val_accuracy
    return AblationRow(name, best.config[name], trial.config[name], accuracy, change)
