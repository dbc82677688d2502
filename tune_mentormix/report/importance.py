"""Which hyperparameters decide who ends up among the best, by Optuna's PED-ANOVA, and how sure that is.

Under early stopping two questions differ. At the first rung every trial counts, but early; at the last epoch only
those that no rung stopped count. Both are shown. The intervals are from bootstraps over trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna
from matplotlib.axes import Axes
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_mentormix.report.pictures import ACCENT, INK, MUTED, Picture, picture

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


def importance_after(study: optuna.Study, epoch: int) -> Importance:
    """How much each hyperparameter says about the accuracy after `epoch`, among the trials that came so far."""
    trials = [_as_complete(trial, epoch) for trial in study.trials if epoch in trial.intermediate_values]
    if len(trials) < LEAST_TRIALS or len(trials[0].params) < 2:
        return Importance(epoch, len(trials), [], None)
    shares = _evaluate(trials)
    random = np.random.default_rng(0)
    samples = [
        _evaluate([trials[i] for i in random.integers(len(trials), size=len(trials))]) for _ in range(BOOTSTRAPS)
    ]
    ranked = []
    for name in sorted(shares, key=lambda name: -shares[name]):
        low, high = np.percentile([sample[name] for sample in samples], INTERVAL)
        ranked.append(HyperparameterImportance(name, shares[name], float(low), float(high)))
    return Importance(epoch, len(trials), ranked, _picture(ranked, epoch, len(trials)))


def _as_complete(trial: FrozenTrial, epoch: int) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        value=trial.intermediate_values[epoch],
        params=trial.params,
        distributions=trial.distributions,
    )


def _evaluate(trials: list[FrozenTrial]) -> dict[str, float]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of ties at the quantile: equal shares say it too
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def _picture(ranked: list[HyperparameterImportance], epoch: int, trials: int) -> Picture:
    said = ", ".join(f"{one.name} {one.share:.2f} ({one.low:.2f} to {one.high:.2f})" for one in ranked)
    size = (3.7, 0.9 + 0.32 * len(ranked))
    return picture(_drawing(ranked, epoch, trials), f"Importance after epoch {epoch}: {said}.", size, size)


def _drawing(ranked: list[HyperparameterImportance], epoch: int, trials: int) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for row, one in enumerate(ranked):
            axes.plot([one.low, one.high], [row, row], color=MUTED, linewidth=1.4, solid_capstyle="butt")
            axes.plot(one.share, row, "o", color=ACCENT, markersize=6, clip_on=False, zorder=3)
        axes.set_yticks(range(len(ranked)), [one.name for one in ranked], color=INK)
        axes.invert_yaxis()
        axes.margins(y=0.18)
        axes.set_xlim(0, 1)
        axes.set_title(f"after epoch {epoch}, {trials} trials", fontsize=9.0, loc="left", color=INK)
        axes.grid(axis="x")

    return draw
