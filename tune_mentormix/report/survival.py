"""Who was stopped at which rung, and how much training that saved."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.report.pictures import ACCENT, Picture, mark_rungs, picture


@dataclass(frozen=True)
class Rung:
    """What happened at one rung; controls are neither stopped nor counted."""

    epoch: int
    came: int
    stopped: list[int]  # trial numbers


@dataclass(frozen=True)
class Survival:
    """The rungs of a search, and its epochs against running every trial in full."""

    rungs: list[Rung]
    epochs_trained: int  # of all trials, each epoch once
    epochs_in_full: int  # of the same trials, had none been stopped or failed
    epochs_saved: int  # by stopping early
    picture: Picture | None


def survival(experiment: Experiment) -> Survival:
    """Counts who came to each rung, and draws how many trials were still training after each epoch."""
    trials = list(experiment.trials.values())
    counted = [trial for trial in trials if trial.control is None]
    stopped = [trial for trial in trials if trial.state == "stopped_early"]
    rungs = [
        Rung(
            rung,
            sum(trial.epoch >= rung for trial in counted),
            sorted(trial.number for trial in stopped if trial.epoch == rung),
        )
        for rung in experiment.rungs
    ]
    return Survival(
        rungs,
        sum(len(trial.reports) for trial in trials),
        sum(int(trial.config["epochs"]) for trial in trials),
        sum(int(trial.config["epochs"]) - trial.epoch for trial in stopped),
        _picture(experiment) if any(trial.reports for trial in trials) else None,
    )


def _picture(experiment: Experiment) -> Picture:
    ends = [trial.epoch for trial in experiment.trials.values()]
    last = max(int(trial.config["epochs"]) for trial in experiment.trials.values())
    epochs = list(range(1, last + 1))
    alive = [sum(end >= epoch for end in ends) for epoch in epochs]

    def draw(axes: Axes) -> None:
        axes.fill_between(epochs, alive, step="mid", color=ACCENT, alpha=0.18, linewidth=0)
        axes.step(epochs, alive, where="mid", color=ACCENT, linewidth=1.8)
        mark_rungs(axes, experiment.rungs)
        axes.set_ylim(0, max(alive) * 1.05)
        axes.margins(x=0.01)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("trials still training")
        axes.grid(axis="y")

    alt = f"Trials that trained each epoch: {alive[0]} the first, {alive[-1]} the last."
    return picture(draw, alt, wide=(7.6, 2.5), narrow=(3.7, 2.5))
