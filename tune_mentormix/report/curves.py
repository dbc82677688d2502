"""Curves over epochs by Optuna's `plot_intermediate_values`: accuracy of all trials, and what the mentor selected."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.formatting import format_accuracy
from tune_mentormix.report.optuna_functions import plot_intermediate_values
from tune_mentormix.report.optuna_plots import optuna_picture, panel_title
from tune_mentormix.report.pictures import (
    ACCENT,
    GREY_PIXELS,
    INK,
    MUTED,
    NARROW,
    TRIAL,
    Picture,
    Size,
    as_pixels,
    mark_rungs,
)
from tune_mentormix.report.plot_study import points, study_of
from tune_mentormix.results.summary import CONTROL_TITLES

_CONTROL_STYLES: dict[str, LineStyleType] = {
    "plain": (0, (1, 1.5)),
    "mixup": (0, (5, 2)),
    "published": "-",
}  # last on top
_PANEL: Size = (3.7, 2.7)
_MENTOR_METRICS = {
    "mean_weight": "mean weight the mentor gives",
    "selected_clean_fraction": "share of the selected that is rightly labelled",
}


def learning_curves(experiment: Experiment) -> Picture | None:
    """Accuracy by epoch of every trial; None before the first report."""
    trials = list(experiment.trials.values())
    if not any(points(trial, "val_accuracy") for trial in trials):
        return None
    best = experiment.best()
    said = f"; the best is trial {best.number} with {format_accuracy(best.val_accuracy)}" if best else ""
    alt = f"Learning curves of {len(trials)} trials on {experiment.labels_kind} validation labels{said}."

    def finish(axes: Axes) -> None:
        axes.set_xlim(0, 1.01 * max(int(trial.config["epochs"]) for trial in trials))
        axes.set_ylabel(f"accuracy, {experiment.labels_kind} validation labels")
        mark_rungs(axes, experiment.rungs)
        _legend_above(axes)

    return _curves(experiment, trials, "val_accuracy", finish, alt, wide=(7.6, 3.9), narrow=(3.7, 3.5))


def mentor_curves(experiment: Experiment) -> list[Picture]:
    """What the mentor selected over time, for each of its metrics that trials reported; baselines have no mentor."""
    trials = [trial for trial in experiment.trials.values() if trial.control not in BASELINES]
    return [
        _mentor_panel(experiment, trials, metric, title)
        for metric, title in _MENTOR_METRICS.items()
        if any(points(trial, metric) for trial in trials)
    ]


def _mentor_panel(experiment: Experiment, trials: list[Trial], metric: str, title: str) -> Picture:
    def finish(axes: Axes) -> None:
        axes.set_ylabel("")
        panel_title(axes, title)

    alt = f"{title[0].upper()}{title[1:]}, by epoch, all MentorMix trials."
    return _curves(experiment, trials, metric, finish, alt, _PANEL, _PANEL)


def _curves(
    experiment: Experiment,
    trials: list[Trial],
    metric: str,
    finish: Callable[[Axes], None],
    alt: str,
    wide: Size,
    narrow: Size,
) -> Picture:
    shown = [trial for trial in trials if points(trial, metric)]  # Optuna draws no others
    best = experiment.best()
    pixels = as_pixels(len(shown))

    def style(axes: Axes) -> None:
        for trial, line in zip(shown, axes.get_lines(), strict=True):
            line.set_marker("")
            _style_line(line, trial, best, pixels)
        axes.set_xlabel("epoch")
        axes.grid(axis="y")
        axes.margins(x=0.01)
        finish(axes)

    study = study_of(shown, metric=metric)
    return optuna_picture(lambda: plot_intermediate_values(study), style, alt, wide, narrow)


def _style_line(line: Line2D, trial: Trial, best: Trial | None, pixels: bool) -> None:
    if trial is best:
        line.set(color=ACCENT, linewidth=2.2, alpha=1, zorder=4, label=f"best, trial {trial.number}")
    elif trial.control in _CONTROL_STYLES:
        title, place = CONTROL_TITLES[trial.control], list(_CONTROL_STYLES).index(trial.control)
        line.set(color=INK, linewidth=1.3, alpha=1, zorder=3 + place / 10, label=title)
        line.set_linestyle(_CONTROL_STYLES[trial.control])
    else:
        line.set(color=GREY_PIXELS if pixels else TRIAL, linewidth=0.8, zorder=2, label="_", rasterized=pixels)


def _legend_above(axes: Axes) -> None:
    """Above the axes, where it hides no curve; in one row where there is room. The best first."""
    named = sorted(axes.get_legend_handles_labels()[0], key=lambda line: -line.get_zorder())
    columns = 4 if axes.figure.bbox.width / axes.figure.dpi > NARROW[0] else 2
    if named:
        axes.legend(
            handles=named,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            borderpad=0.0,
            ncols=columns,
            labelcolor=MUTED,
            handlelength=2.4,
        )
