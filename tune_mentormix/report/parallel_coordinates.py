"""All finished configurations at once, by Optuna's `plot_parallel_coordinate`."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from optuna.distributions import BaseDistribution, CategoricalDistribution

from tune_mentormix.config.search_space import SearchSpace
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.report.optuna_functions import plot_parallel_coordinate
from tune_mentormix.report.optuna_plots import optuna_picture
from tune_mentormix.report.pictures import ACCENT, FAINT, GREY_PIXELS, INK, OVER_LINES, Picture, as_pixels
from tune_mentormix.report.plot_study import searched_trials, study_of
from tune_mentormix.report.ticks import label_choices, label_range

_HEIGHT = 3.4  # inches
_LONGEST = 8  # letters of a name in one line


def parallel_coordinates(experiment: Experiment, space: SearchSpace) -> Picture | None:
    """A line a finished trial, the stronger the higher it ranks; None for fewer than two of them or of columns."""
    finished = [trial for trial in searched_trials(experiment, space) if trial.state == "finished"]
    names = sorted(space.distributions)  # Optuna's order
    if len(finished) < 2 or len(names) < 2:
        return None
    study = study_of(finished, space.distributions)

    def finish(axes: Axes) -> None:
        _rank_lines(axes)
        label_range(axes.yaxis, *axes.get_ylim())
        for column, (name, axis_of) in enumerate(zip(names, axes.figure.axes[1:], strict=True), start=1):
            axes.axvline(column, color=FAINT, linewidth=0.8, zorder=0)
            for spine in axis_of.spines.values():
                spine.set_visible(False)
            values = [trial.config[name] for trial in finished]
            _label(axis_of, space.distributions[name], values)
        titles = ["accuracy", *map(_broken, names)]
        axes.set_xticks(range(len(titles)), titles, rotation=0, color=INK)
        axes.set_xlabel("")
        axes.set_ylabel("")
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="x", pad=9)

    alt = f"Parallel coordinates of {len(finished)} finished trials over {', '.join(names)}."
    columns = 1 + len(names)
    wide, narrow = (max(7.6, 1.2 * columns), _HEIGHT), (max(3.7, 0.95 * columns), _HEIGHT)
    return optuna_picture(lambda: plot_parallel_coordinate(study), finish, alt, wide, narrow)


def _rank_lines(axes: Axes) -> None:
    """The best in colour and on top, the others the fainter the lower they rank; each line begins at its accuracy."""
    lines = next(drawn for drawn in axes.collections if isinstance(drawn, LineCollection))
    ranked = sorted(lines.get_segments(), key=lambda line: float(line[0][1]))
    pixels = as_pixels(len(ranked))
    colour = GREY_PIXELS if pixels else INK
    lines.set_array(None)
    lines.set_segments(ranked[:-1])
    lines.set_color([to_rgba(colour, 0.06 + 0.54 * (rank / len(ranked)) ** 3) for rank in range(len(ranked) - 1)])
    lines.set(linewidth=0.9, rasterized=pixels, clip_on=False)
    axes.plot(*np.transpose(ranked[-1]), color=ACCENT, linewidth=2.4, clip_on=False)


def _label(axes: Axes, distribution: BaseDistribution, values: list[object]) -> None:
    if isinstance(distribution, CategoricalDistribution):
        written = [label.get_text() for label in axes.get_yticklabels()]  # Optuna sorts some, and some it does not
        by_text = {str(value): value for value in values}
        label_choices(axes.yaxis, [by_text[text] for text in written])
    else:
        label_range(axes.yaxis, *axes.get_ylim(), log=axes.get_yscale() == "log")
    axes.tick_params(length=0, pad=1.5, labelcolor=OVER_LINES, labelsize=7.5)


def _broken(name: str) -> str:
    """In two lines where it is long, so that neighbours do not touch."""
    words = name.split("_")
    half = (len(words) + 1) // 2
    return "_".join(words[:half]) + "_\n" + "_".join(words[half:]) if len(name) > _LONGEST and words[half:] else name
