"""Which hyperparameters decide who ends up among the best, by Optuna's PED-ANOVA, and how sure that is.

Under early stopping two questions differ. At the first rung every trial counts, but early; at the last epoch only
those that no rung stopped count. Both are shown, by Optuna's `plot_param_importances`; the intervals, which it has
not, are from bootstraps over trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import optuna
from matplotlib.axes import Axes

from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.report.optuna_functions import (
    PedAnovaImportanceEvaluator,
    get_param_importances,
    plot_param_importances,
)
from tune_mentormix.report.optuna_plots import optuna_picture, panel_title
from tune_mentormix.report.pictures import ACCENT, INK, Picture
from tune_mentormix.report.plot_study import searched_trials, study_of

LEAST_TRIALS = 30  # of fewer, the best tenth is one or two trials, and what sets them apart is luck
BOOTSTRAPS = 40
INTERVAL = (5, 95)  # percentiles


@dataclass(frozen=True)
class HyperparameterImportance:
    """A share of 1, and the interval it lies in over bootstraps."""

    name: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """Importances measured after one epoch, the most important first; none where trials are too few."""

    epoch: int
    trials: int
    hyperparameters: list[HyperparameterImportance]
    picture: Picture | None


def importance_after(experiment: Experiment, space: SearchSpace, epoch: int) -> Importance:
    """How much each hyperparameter says about the accuracy after `epoch`, among the trials that came so far."""

    def accuracy(trial: Trial) -> float | None:
        return trial.reports[epoch]["val_accuracy"] if epoch in trial.reports else None

    came = [trial for trial in searched_trials(experiment, space) if accuracy(trial) is not None]
    if len(came) < LEAST_TRIALS or len(space.distributions) < 2:
        return Importance(epoch, len(came), [], None)
    study = study_of(came, space.distributions, accuracy)
    ranked = _ranked(study)
    return Importance(epoch, len(came), ranked, _picture(study, ranked, epoch))


def _ranked(study: optuna.Study) -> list[HyperparameterImportance]:
    """The most important first."""
    trials = study.trials
    shares = _evaluate(study)
    random = np.random.default_rng(0)
    samples = []
    for _ in range(BOOTSTRAPS):
        resampled = optuna.create_study(direction="maximize")
        resampled.add_trials([trials[i] for i in random.integers(len(trials), size=len(trials))])
        samples.append(_evaluate(resampled))
    ranked = []
    for name in sorted(shares, key=lambda name: -shares[name]):
        low, high = np.percentile([sample[name] for sample in samples], INTERVAL)
        ranked.append(HyperparameterImportance(name, shares[name], float(low), float(high)))
    return ranked


def _evaluate(study: optuna.Study) -> dict[str, float]:
    with _ties_allowed():
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


@contextmanager
def _ties_allowed() -> Iterator[None]:
    """Without Optuna's warnings of ties at the quantile: equal shares say it too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _picture(study: optuna.Study, ranked: list[HyperparameterImportance], epoch: int) -> Picture:
    def plot() -> Axes:
        with _ties_allowed():
            return plot_param_importances(study, PedAnovaImportanceEvaluator())

    def finish(axes: Axes) -> None:
        for bar in axes.patches:
            bar.set(color=ACCENT, alpha=0.35)
        for label in list(axes.texts):
            label.remove()  # they stand where the intervals are
        names = [label.get_text() for label in axes.get_yticklabels()]
        for one in ranked:
            row = names.index(one.name)
            axes.plot([one.low, one.high], [row, row], color=INK, linewidth=1.4, solid_capstyle="butt")
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlim(0, 1)
        axes.set(xlabel="", ylabel="")
        axes.grid(axis="x")
        panel_title(axes, f"after epoch {epoch}, {len(study.trials)} trials")

    said = ", ".join(f"{one.name} {one.share:.2f} ({one.low:.2f} to {one.high:.2f})" for one in ranked)
    size = (3.7, 0.9 + 0.32 * len(ranked))
    return optuna_picture(plot, finish, f"Importance after epoch {epoch}: {said}.", size, size)
