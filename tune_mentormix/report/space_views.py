"""The searched space in pictures: parallel coordinates of the trials, and a slice for every hyperparameter."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from tune_mentormix.experiment import Experiment, Trial
from tune_mentormix.report.pictures import (
    ACCENT,
    FAINT,
    GREY_PIXELS,
    INK,
    MUTED,
    OVER_LINES,
    Picture,
    Size,
    as_pixels,
    picture,
)
from tune_mentormix.report.scales import Scale

_PANEL: Size = (3.7, 2.5)


def parallel_coordinates(experiment: Experiment, scales: list[Scale]) -> Picture | None:
    """A line a finished trial, the stronger the higher it ranks; None for fewer than two trials or scales."""
    finished = [trial for trial in _shown(experiment, scales) if trial.state == "finished"]
    if len(finished) < 2 or len(scales) < 2:
        return None
    best = experiment.best()
    ranked = sorted(finished, key=lambda trial: trial.val_accuracy or 0.0)

    def draw(axes: Axes) -> None:
        pixels = as_pixels(len(ranked))
        for rank, trial in enumerate(ranked):
            places = [scale.position(trial.config[scale.name]) + _scatter(scale, trial) for scale in scales]
            if trial is best:
                axes.plot(places, color=ACCENT, linewidth=2.4)
                continue
            opacity = 0.06 + 0.54 * (rank / len(ranked)) ** 3
            colour = GREY_PIXELS if pixels else INK
            axes.plot(places, color=colour, alpha=opacity, linewidth=0.9, rasterized=pixels)
        _draw_scales(axes, scales)

    alt = f"Parallel coordinates of {len(finished)} finished trials over {', '.join(scale.name for scale in scales)}."
    wide = max(7.6, 1.2 * len(scales))
    return picture(draw, alt, wide=(wide, 3.4), narrow=(max(3.7, 0.95 * len(scales)), 3.4))


def slices(experiment: Experiment, scales: list[Scale]) -> list[Picture]:
    """For every hyperparameter, the accuracy of the trials over its values."""
    trials = [trial for trial in _shown(experiment, scales) if trial.val_accuracy is not None]
    return [_slice(experiment, scale, trials) for scale in scales] if trials else []


def _slice(experiment: Experiment, scale: Scale, trials: list[Trial]) -> Picture:
    best = experiment.best()
    published = next((trial for trial in trials if trial.control == "published"), None)

    def draw(axes: Axes) -> None:
        for trial in trials:
            place = scale.position(trial.config[scale.name]) + _scatter(scale, trial)
            accuracy = trial.val_accuracy or 0.0
            if trial is best:
                axes.plot(place, accuracy, "o", color=ACCENT, markersize=8, zorder=5)
            elif trial.state == "finished":
                axes.plot(place, accuracy, "o", color=INK, markersize=3.6, alpha=0.75, markeredgewidth=0, zorder=3)
            else:
                axes.plot(place, accuracy, "o", color="none", markeredgecolor=MUTED, markersize=3.4, alpha=0.6)
        if published:
            axes.axvline(scale.position(published.config[scale.name]), color=INK, linewidth=1, linestyle=(0, (4, 2)))
        positions, labels = zip(*scale.ticks(), strict=True)
        axes.set_xticks(positions, labels)
        axes.set_xlim(-0.04, 1.04)
        axes.grid(axis="y")
        axes.set_title(scale.name, fontsize=9.0, loc="left", color=INK)

    return picture(draw, f"Accuracy of {len(trials)} trials over {scale.name}.", _PANEL, _PANEL)


def _draw_scales(axes: Axes, scales: list[Scale]) -> None:
    for column, scale in enumerate(scales):
        axes.axvline(column, color=FAINT, linewidth=1, zorder=0)
        for place, label in scale.ticks():
            axes.text(column + 0.03, place, label, color=OVER_LINES, fontsize=7.5, va="center", zorder=6)
    axes.set_xticks(range(len(scales)), [_broken(scale.name) for scale in scales], color=INK)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(scales) - 0.6)
    axes.set_ylim(-0.05, 1.05)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def _broken(name: str) -> str:
    """In two lines where there are words enough, so that neighbours do not touch."""
    words = name.split("_")
    half = (len(words) + 1) // 2
    return "_".join(words[:half]) + ("_\n" + "_".join(words[half:]) if words[half:] else "")


def _scatter(scale: Scale, trial: Trial) -> float:
    """Choices are drawn a little apart, or all trials of one would hide each other; always alike for a trial."""
    steps = getattr(scale.distribution, "choices", ())
    return float(np.random.default_rng(trial.number).uniform(-0.25, 0.25) / len(steps)) if steps else 0.0


def _shown(experiment: Experiment, scales: list[Scale]) -> list[Trial]:
    """The trials within the space; of the controls, the published setting alone trains MentorMix."""
    return [
        trial
        for trial in experiment.trials.values()
        if trial.control in (None, "published")
        and all(scale.name in trial.config and scale.holds(trial.config[scale.name]) for scale in scales)
    ]
