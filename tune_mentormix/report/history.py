"""The best so far, by Optuna's `plot_optimization_history`: whether the later trials still brought anything."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.ticker import MaxNLocator

from tune_mentormix.config.controls import BASELINES
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.report.optuna_functions import plot_optimization_history
from tune_mentormix.report.optuna_plots import optuna_picture
from tune_mentormix.report.pictures import ACCENT, GREY_PIXELS, INK, Picture, as_pixels
from tune_mentormix.report.plot_study import study_of


def best_so_far(experiment: Experiment) -> Picture | None:
    """Finished trials by number, and the best of them so far; None for fewer than two."""
    trials = [experiment.trials[number] for number in sorted(experiment.trials)]
    compared = [value for value in map(_compared, trials) if value is not None]
    if len(compared) < 2:
        return None
    study = study_of(trials, value=_compared)

    def finish(axes: Axes) -> None:
        (line,) = axes.get_lines()
        line.set(color=ACCENT, alpha=1, linewidth=1.8, drawstyle="steps-post")
        for dots in axes.collections:
            assert isinstance(dots, PathCollection)
            pixels = as_pixels(len(compared))
            dots.set(
                facecolor=GREY_PIXELS if pixels else INK, alpha=0.75, sizes=[12.0], linewidth=0, rasterized=pixels
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel("accuracy, trials that ran to the end")
        axes.grid(axis="y")

    alt = (
        f"Accuracy of {len(compared)} finished trials by number, and the best so far, {max(compared):.4f} at the end."
    )
    return optuna_picture(lambda: plot_optimization_history(study), finish, alt, wide=(7.6, 2.7), narrow=(3.7, 2.7))


def _compared(trial: Trial) -> float | None:
    return trial.val_accuracy if trial.state == "finished" and trial.control not in BASELINES else None
