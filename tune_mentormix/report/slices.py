"""Accuracy over each hyperparameter, by Optuna's `plot_slice`."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.report.optuna_functions import plot_slice
from tune_mentormix.report.optuna_plots import optuna_picture, panel_title
from tune_mentormix.report.pictures import ACCENT, GREY_PIXELS, INK, MUTED, Picture, Size, as_pixels
from tune_mentormix.report.plot_study import searched_trials, study_of
from tune_mentormix.report.ticks import label_choices, label_range

_PANEL: Size = (3.7, 2.5)
_NO_COLOUR = (0.0, 0.0, 0.0, 0.0)
_SPREAD = 0.25  # choices apart: trials of one choice are drawn a little apart, or they would hide each other


def slices(experiment: Experiment, space: SearchSpace) -> list[Picture]:
    """For every hyperparameter, the accuracy of the trials over its values."""
    trials = [trial for trial in searched_trials(experiment, space) if trial.val_accuracy is not None]
    return [_slice(experiment, space, name, trials) for name in space.distributions] if trials else []


def _slice(experiment: Experiment, space: SearchSpace, name: str, trials: list[Trial]) -> Picture:
    distribution = space.distributions[name]
    study = study_of(trials, {name: distribution})
    best = experiment.best()
    published = next((trial for trial in trials if trial.control == "published"), None)

    def plot() -> Axes:
        axes = plot_slice(study, [name])
        assert isinstance(axes, Axes)  # one, of one hyperparameter
        return axes

    def finish(axes: Axes) -> None:
        dots = axes.collections[0]
        assert isinstance(dots, PathCollection)
        drawn = [trials[int(number)] for number in np.asarray(dots.get_array())]  # Optuna groups choices
        place_of_published = _lay_out(axes, dots, drawn, name, distribution, published)
        _style(dots, drawn)
        if best in drawn:
            place = np.asarray(dots.get_offsets())[drawn.index(best)]
            axes.plot(*place, "o", color=ACCENT, markersize=8, zorder=5)
        if place_of_published is not None:
            axes.axvline(place_of_published, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        axes.grid(axis="y")
        axes.set(xlabel="", ylabel="")
        panel_title(axes, name)

    alt = f"Accuracy of {len(trials)} trials over {name}."
    return optuna_picture(plot, finish, alt, _PANEL, _PANEL)


def _lay_out(
    axes: Axes,
    dots: PathCollection,
    drawn: list[Trial],
    name: str,
    distribution: BaseDistribution,
    published: Trial | None,
) -> float | None:
    """The whole range that was searched, or the choices that were tried; returns where the published value lies."""
    if isinstance(distribution, CategoricalDistribution):
        tried = [choice for choice in distribution.choices if any(trial.config[name] == choice for trial in drawn)]
        label_choices(axes.xaxis, tried)
        axes.set_xlim(-0.5, len(tried) - 0.5)
        offsets = np.array(dots.get_offsets())
        offsets[:, 0] += [np.random.default_rng(trial.number).uniform(-_SPREAD, _SPREAD) for trial in drawn]
        dots.set_offsets(offsets)
        return tried.index(published.config[name]) if published else None
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    axes.set_xlim(low, high)
    label_range(axes.xaxis, low, high, distribution.log)
    return float(published.config[name]) if published else None


def _style(dots: PathCollection, drawn: list[Trial]) -> None:
    """Filled if the trial ran to the end, a ring otherwise."""
    pixels = as_pixels(len(drawn))
    ink, muted = (GREY_PIXELS, GREY_PIXELS) if pixels else (INK, MUTED)
    ended = [trial.state == "finished" for trial in drawn]
    dots.set_array(None)
    dots.set_facecolor([to_rgba(ink, 0.75) if one else _NO_COLOUR for one in ended])
    dots.set_edgecolor([_NO_COLOUR if one else to_rgba(muted, 0.6) for one in ended])
    dots.set(sizes=[12.0], linewidth=0.9, rasterized=pixels, clip_on=False)
