"""The figures of a report, and the statistics that some of them show."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from math import log

import matplotlib as mpl
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.typing import LineStyleType
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.formatting import format_accuracy, format_value
from tune_mentormix.report.figures import (
    BEST,
    CONTROL,
    MAX_VECTOR_LINES,
    MUTED,
    OTHER,
    PANEL,
    WIDE,
    Figure,
    draw_figure,
    label_epochs,
    show_legend,
)
from tune_mentormix.results.summary import control_title
from tune_mentormix.results.verification_summary import chosen_trial

MIN_TRIALS = 30  # of fewer, the best tenth is one or two trials, and what sets them apart is luck
BOOTSTRAPS = 40
INTERVAL = (5, 95)  # percentiles
_CONTROL_STYLES: dict[str, LineStyleType] = {"published": "-", "mixup": (0, (5, 2)), "plain": (0, (1, 1.5))}
_EARLIER_STYLE: LineStyleType = (0, (6, 1.5, 1, 1.5))  # of a published setting that another one replaces
_MENTOR_METRICS = {
    "mean_weight": "mean weight given by the mentor",
    "selected_clean_fraction": "fraction of selected examples with clean labels",
}
_MAX_NAME_LENGTH = 8  # letters on one line
_JITTER = 0.25  # of the distance between two choices: trials with the same choice would hide each other

Distributions = Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class Rung:
    """The trials that reached one rung and were stopped there; controls are neither stopped nor counted."""

    epoch: int
    reached: int  # how many trials
    stopped: list[int]  # trial numbers


@dataclass(frozen=True)
class PruningStatistics:
    """The trials at each rung, and the epochs of a search against running every trial in full."""

    rungs: list[Rung]
    epochs_trained: int  # of all trials, each epoch once
    epochs_in_full: int  # of the same trials, had none been stopped or failed
    epochs_saved: int  # by early stopping
    figure: Figure | None


@dataclass(frozen=True)
class HyperparameterImportance:
    """The importance of one hyperparameter (all add up to 1), and its bootstrap interval."""

    name: str
    importance: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """Importances for the accuracy after one epoch, the highest first; none where trials are too few."""

    epoch: int
    trials: int
    hyperparameters: list[HyperparameterImportance]
    figure: Figure | None


def learning_curves(experiment: Experiment) -> Figure | None:
    """Draws accuracy by epoch of every trial; None before the first report."""
    trials = [trial for trial in experiment.trials.values() if _points(trial, "val_accuracy")]
    if not trials:
        return None
    best = chosen_trial(experiment)

    def plot(axes: Axes) -> None:
        _plot_curves(axes, trials, "val_accuracy", best)
        axes.set_ylabel(f"accuracy, {experiment.labels_kind} validation labels")
        axes.set_xlim(0, 1.01 * max(int(trial.config["epochs"]) for trial in experiment.trials.values()))
        label_epochs(axes, experiment.rungs)
        show_legend(axes)

    leader = f"; the best is trial {best.number} with {format_accuracy(best.val_accuracy)}" if best else ""
    alt = f"Learning curves of {len(trials)} trials on {experiment.labels_kind} validation labels{leader}."
    return draw_figure(plot, alt, (WIDE[0], 3.4))


def mentor_curves(experiment: Experiment) -> list[Figure]:
    """Draws what the mentor selected by epoch, one figure for each metric reported; baselines have no mentor."""
    best, figures = chosen_trial(experiment), []
    for metric, title in _MENTOR_METRICS.items():
        trials = [t for t in experiment.trials.values() if not t.is_baseline and _points(t, metric)]

        def plot(axes: Axes, trials: list[Trial] = trials, metric: str = metric, title: str = title) -> None:
            _plot_curves(axes, trials, metric, best)
            axes.set_title(title)
            label_epochs(axes)

        if trials:
            figures.append(draw_figure(plot, f"{title[0].upper()}{title[1:]} by epoch, {len(trials)} trials.", PANEL))
    return figures


def optimization_history(study: optuna.Study, metric: str = "accuracy") -> Figure | None:
    """Draws the metric of the finished trials by number, and the best so far; None for fewer than two trials."""
    finished = {
        trial.user_attrs["trial"]: trial.value
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.value is not None and trial.user_attrs.get("control") not in BASELINES
    }
    if len(finished) < 2:
        return None
    best_so_far = np.maximum.accumulate(list(finished.values()))

    def plot(axes: Axes) -> None:
        axes.plot(list(finished), list(finished.values()), "o", color=CONTROL, alpha=0.6, label="finished trial")
        axes.step(list(finished), best_so_far, where="post", color=BEST, linewidth=1.8, label="best so far")
        axes.set(xlabel="trial", ylabel=f"{metric} after the last epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        show_legend(axes)

    title = f"{metric[0].upper()}{metric[1:]}"
    alt = f"{title} of {len(finished)} finished trials by number; the best so far ends at {best_so_far[-1]:.4f}."
    return draw_figure(plot, alt, (WIDE[0], 2.6))


def pruning_statistics(experiment: Experiment) -> PruningStatistics:
    """Counts the trials at each rung, and draws how many trained in each epoch."""
    trials = list(experiment.trials.values())
    stopped = [trial for trial in trials if trial.state == "stopped_early"]
    rungs = [
        Rung(
            epoch,
            sum(trial.epoch >= epoch for trial in trials if trial.control is None),
            sorted(trial.number for trial in stopped if trial.epoch == epoch),
        )
        for epoch in experiment.rungs
    ]
    return PruningStatistics(
        rungs,
        sum(len(trial.reports) for trial in trials),
        sum(int(trial.config["epochs"]) for trial in trials),
        sum(int(trial.config["epochs"]) - trial.epoch for trial in stopped),
        _trials_by_epoch(experiment) if any(trial.reports for trial in trials) else None,
    )


def importance_after(study: optuna.Study, epoch: int) -> Importance:
    """Estimates how much each hyperparameter separates the best tenth of the trials from the rest (PED-ANOVA).

    Only trials that reached `epoch` count: at the first rung nearly all of them, but early in training; at the last
    epoch those that no rung stopped. The intervals are from bootstraps over the trials.
    """
    trials = [
        create_trial(value=trial.intermediate_values[epoch], params=trial.params, distributions=trial.distributions)
        for trial in study.get_trials(deepcopy=False)
        if trial.params and epoch in trial.intermediate_values
    ]
    if len(trials) < MIN_TRIALS or len(trials[0].params) < 2:
        return Importance(epoch, len(trials), [], None)
    importances = _ped_anova(trials)
    random = np.random.default_rng(0)
    bootstraps = [
        _ped_anova([trials[i] for i in random.integers(len(trials), size=len(trials))]) for _ in range(BOOTSTRAPS)
    ]
    ranked = []
    for name in sorted(importances, key=lambda name: -importances[name]):
        low, high = np.percentile([sample[name] for sample in bootstraps], INTERVAL)
        ranked.append(HyperparameterImportance(name, importances[name], float(low), float(high)))

    def plot(axes: Axes) -> None:
        names = [one.name for one in ranked]
        axes.barh(names, [one.importance for one in ranked], color=BEST, alpha=0.35)
        axes.hlines(names, [one.low for one in ranked], [one.high for one in ranked], color=CONTROL)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), title=f"after epoch {epoch}, {len(trials)} trials")
        axes.grid(axis="x")

    listed = ", ".join(f"{one.name} {one.importance:.2f} ({one.low:.2f} to {one.high:.2f})" for one in ranked)
    figure = draw_figure(plot, f"Importance after epoch {epoch}: {listed}.", (PANEL[0], 0.9 + 0.32 * len(ranked)))
    return Importance(epoch, len(trials), ranked, figure)


def parallel_coordinates(
    study: optuna.Study, distributions: Distributions, metric: str = "accuracy"
) -> Figure | None:
    """Draws a line for each finished trial, the best on top; None for fewer than two trials or hyperparameters."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = sorted((trial for trial in complete if trial.params), key=lambda trial: trial.value or 0.0)
    if len(trials) < 2 or len(distributions) < 2:
        return None
    low, high = trials[0].value or 0.0, trials[-1].value or 0.0
    columns: Distributions = {metric: FloatDistribution(low, max(high, low + 1e-9)), **distributions}
    lines = [
        [(column, _position(value, columns[name])) for column, (name, value) in enumerate(values.items())]
        for values in ({metric: trial.value, **{n: trial.params[n] for n in distributions}} for trial in trials)
    ]

    def plot(axes: Axes) -> None:
        greys = mpl.colormaps["Greys"](0.15 + 0.55 * np.linspace(0, 1, len(lines)) ** 2)
        axes.add_collection(LineCollection(lines[:-1], colors=greys, linewidths=0.9, rasterized=_as_pixels(lines)))
        axes.plot(*np.transpose(lines[-1]), color=BEST, linewidth=2.2, clip_on=False)
        for column, distribution in enumerate(columns.values()):
            axes.vlines(column, 0, 1, color=MUTED, linewidth=0.8)
            _label_ends(axes, column, distribution)
        # A long name on several lines, so that neighbours do not touch.
        headings = [name.replace("_", "_\n") if len(name) > _MAX_NAME_LENGTH else name for name in columns]
        axes.set(xlim=(-0.1, len(columns) - 0.9), ylim=(-0.1, 1.1), yticks=[])
        axes.set_xticks(range(len(columns)), headings, color=CONTROL)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    alt = f"Parallel coordinates of {len(trials)} finished trials over {', '.join(distributions)}."
    return draw_figure(plot, alt, (max(WIDE[0], 0.95 * len(columns)), 3.4))


def slices(
    study: optuna.Study, distributions: Distributions, best: Trial | None, metric: str = "accuracy"
) -> list[Figure]:
    """Draws the latest metric of the trials over each hyperparameter."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.params and trial.intermediate_values]
    return [_slice(trials, name, distributions[name], best, metric) for name in distributions] if trials else []


def _points(trial: Trial, metric: str) -> list[tuple[int, float]]:
    """Returns the epochs at which a metric was reported, and its values."""
    by_epoch = ((epoch, trial.reports[epoch].get(metric)) for epoch in sorted(trial.reports))
    return [(epoch, value) for epoch, value in by_epoch if value is not None]


def _short_title(control: Trial) -> str:
    """Returns the title of a control, short enough for two columns of a legend."""
    return control_title(control).replace(" setting for", ",")


def _as_pixels(drawn: Sized) -> bool:
    return len(drawn) > MAX_VECTOR_LINES


def _plot_curves(axes: Axes, trials: list[Trial], metric: str, best: Trial | None) -> None:
    """Draws the best in colour, the controls in black, all other trials in grey."""
    rest = [trial for trial in trials if trial is not best]
    others = [_points(trial, metric) for trial in rest if trial.control not in _CONTROL_STYLES]
    axes.add_collection(LineCollection(others, colors=OTHER, linewidths=0.8, rasterized=_as_pixels(others)))
    for control, style in _CONTROL_STYLES.items():
        drawn = [trial for trial in rest if trial.control == control]
        for trial in drawn:  # of two published settings, the later one is compared with
            points, title = np.transpose(_points(trial, metric)), _short_title(trial)
            line = style if trial is drawn[-1] else _EARLIER_STYLE
            axes.plot(*points, color=CONTROL, linewidth=1.3, ls=line, label=title)
    if best in trials:
        points = np.transpose(_points(best, metric))
        axes.plot(*points, color=BEST, linewidth=2.2, zorder=4, label=f"best, trial {best.number}")
    axes.autoscale_view()
    axes.grid(axis="y")


def _trials_by_epoch(experiment: Experiment) -> Figure:
    ends = [trial.epoch for trial in experiment.trials.values()]
    epochs = range(1, 1 + max(int(trial.config["epochs"]) for trial in experiment.trials.values()))
    alive = [sum(end >= epoch for end in ends) for epoch in epochs]

    def plot(axes: Axes) -> None:
        axes.fill_between(epochs, alive, step="mid", color=BEST, alpha=0.18, linewidth=0)
        axes.step(epochs, alive, where="mid", color=BEST, linewidth=1.8)
        label_epochs(axes, experiment.rungs)
        axes.set(ylabel="trials still training", ylim=(0, 1.05 * max(alive)))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.grid(axis="y")

    alt = f"Trials that trained each epoch: {alive[0]} the first, {alive[-1]} the last."
    return draw_figure(plot, alt, (WIDE[0], 2.4))


def _ped_anova(trials: list[FrozenTrial]) -> dict[str, float]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of ties at the quantile: equal importances show them
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def _position(value: object, distribution: BaseDistribution) -> float:
    """Returns where a value lies in its range, from 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / max(1, len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert isinstance(value, float | int)
    low, high = distribution.low, distribution.high
    return log(value / low) / log(high / low) if distribution.log else (value - low) / (high - low)


def _label_ends(axes: Axes, column: int, distribution: BaseDistribution) -> None:
    """Writes the ends of a range below and above its axis, or each choice beside it."""
    if isinstance(distribution, CategoricalDistribution):
        for choice in distribution.choices:
            position, box = _position(choice, distribution), {"color": "white", "alpha": 0.8, "pad": 1}
            axes.text(column, position, format_value(choice), ha="center", va="center", bbox=box)
    elif isinstance(distribution, FloatDistribution | IntDistribution):
        axes.text(column, -0.02, f"{distribution.low:.3g}", ha="center", va="top", color=MUTED)
        axes.text(column, 1.02, f"{distribution.high:.3g}", ha="center", va="bottom", color=MUTED)


def _slice(
    trials: list[FrozenTrial], name: str, distribution: BaseDistribution, best: Trial | None, metric: str
) -> Figure:
    choices = list(distribution.choices) if isinstance(distribution, CategoricalDistribution) else None

    def point(trial: FrozenTrial) -> tuple[float, float]:
        value, number = trial.params[name], trial.user_attrs["trial"]
        shift = np.random.default_rng(number).uniform(-_JITTER, _JITTER) if choices else 0.0
        return (choices.index(value) if choices else value) + shift, trial.intermediate_values[trial.last_step or 0]

    def plot(axes: Axes) -> None:
        for trial in trials:
            if trial.user_attrs.get("control") == "published":
                at = choices.index(trial.params[name]) if choices else trial.params[name]
                axes.axvline(at, color=CONTROL, linewidth=1, linestyle=(0, (4, 2)))
        ended = [point(trial) for trial in trials if trial.state == TrialState.COMPLETE]
        others = [point(trial) for trial in trials if trial.state != TrialState.COMPLETE]
        for points, fill in ((others, "none"), (ended, CONTROL)):
            x, y = np.transpose(points) if points else ([], [])
            axes.plot(x, y, "o", color=CONTROL, mfc=fill, mew=0.7, alpha=0.6, rasterized=_as_pixels(points))
        for trial in trials:
            if best and trial.user_attrs["trial"] == best.number:
                axes.plot(*point(trial), "o", color=BEST, markersize=8)
        if choices:
            axes.set_xticks(range(len(choices)), [format_value(choice) for choice in choices])
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif isinstance(distribution, FloatDistribution | IntDistribution):
            if distribution.log:
                axes.set_xscale("log")
                subs = (1, 2, 5) if distribution.high <= 100 * distribution.low else (1,)
                axes.xaxis.set_major_locator(LogLocator(subs=subs))
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(distribution.low, distribution.high)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(name)
        axes.grid(axis="y")

    return draw_figure(plot, f"{metric[0].upper()}{metric[1:]} of {len(trials)} trials over {name}.", PANEL)
