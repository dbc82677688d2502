"""Curves over epochs: validation accuracy of all trials, and what the mentor selected."""

from __future__ import annotations

from matplotlib.axes import Axes

from tune_mentormix.experiment import Experiment, Trial
from tune_mentormix.findings import CONTROL_TITLES
from tune_mentormix.formats import format_accuracy
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
    picture,
)

_CONTROL_STYLES = {"plain": (0, (1, 1.5)), "mixup": (0, (5, 2)), "published": "-"}  # the last drawn on top
_PANEL: Size = (3.7, 2.7)
_MENTOR_METRICS = {
    "mean_weight": "mean weight the mentor gives",
    "selected_clean_fraction": "share of the selected that is rightly labelled",
}


def learning_curves(experiment: Experiment) -> Picture | None:
    """Accuracy by epoch of every trial; None before the first report."""
    if not any(trial.reports for trial in experiment.trials.values()):
        return None
    best = experiment.best()
    said = f"; the best is trial {best.number} with {format_accuracy(best.val_accuracy)}" if best else ""
    alt = f"Learning curves of {len(experiment.trials)} trials on {experiment.labels_kind} validation labels{said}."

    def draw(axes: Axes) -> None:
        _draw(axes, experiment, "val_accuracy")
        axes.set_xlim(0, 1.01 * max(int(trial.config["epochs"]) for trial in experiment.trials.values()))
        axes.set_ylabel(f"accuracy, {experiment.labels_kind} validation labels")
        mark_rungs(axes, experiment.rungs)
        _legend_above(axes)

    return picture(draw, alt, wide=(7.6, 3.9), narrow=(3.7, 3.5))


def mentor_curves(experiment: Experiment) -> list[Picture]:
    """What the mentor selected over time, for each of its metrics that trials reported."""
    return [
        _mentor_panel(experiment, metric, title)
        for metric, title in _MENTOR_METRICS.items()
        if any(_points(trial, metric) for trial in experiment.trials.values())
    ]


def _mentor_panel(experiment: Experiment, metric: str, title: str) -> Picture:
    def draw(axes: Axes) -> None:
        _draw(axes, experiment, metric, baselines=False)
        axes.set_title(title, fontsize=9.0, loc="left", color=INK)

    return picture(draw, f"{title[0].upper()}{title[1:]}, by epoch, all MentorMix trials.", _PANEL, _PANEL)


def _draw(axes: Axes, experiment: Experiment, metric: str, baselines: bool = True) -> None:
    best = experiment.best()
    trials = [trial for trial in experiment.trials.values() if trial is not best and not trial.control]
    pixels = as_pixels(len(trials))
    for trial in trials:
        axes.plot(
            *_line(trial, metric),
            color=GREY_PIXELS if pixels else TRIAL,
            linewidth=0.8,
            alpha=0.7,
            zorder=2,
            rasterized=pixels,
        )
    controls = {trial.control: trial for trial in experiment.trials.values() if trial is not best}
    for name in _CONTROL_STYLES if baselines else ("published",):
        if name in controls:
            style, title = _CONTROL_STYLES[name], CONTROL_TITLES[name]
            axes.plot(
                *_line(controls[name], metric), color=INK, linewidth=1.3, linestyle=style, zorder=3, label=title
            )
    if best:
        axes.plot(*_line(best, metric), color=ACCENT, linewidth=2.2, zorder=4, label=f"best, trial {best.number}")
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.margins(x=0.01)


def _legend_above(axes: Axes) -> None:
    """Above the axes, where it hides no curve; in one row where there is room."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 4 if axes.figure.bbox.width / axes.figure.dpi > NARROW[0] else 2
    if handles:
        axes.legend(
            handles[::-1],
            labels[::-1],
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            borderpad=0.0,
            ncols=columns,
            labelcolor=MUTED,
            handlelength=2.4,
        )


def _line(trial: Trial, metric: str) -> tuple[list[int], list[float]]:
    points = _points(trial, metric)
    return [epoch for epoch, _ in points], [value for _, value in points]


def _points(trial: Trial, metric: str) -> list[tuple[int, float]]:
    by_epoch = ((epoch, trial.reports[epoch].get(metric)) for epoch in sorted(trial.reports))
    return [(epoch, value) for epoch, value in by_epoch if value is not None]
