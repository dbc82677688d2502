"""The state of a running search as a table or a line; who shows it, and how often, is the caller's matter."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import NOTHING, format_accuracy, format_duration
from tune_mentormix.results.clean_terms import clean_estimate
from tune_mentormix.results.summary import counts_in_words


class ProgressTable:
    """Describes a search while it runs; the time left is from the epochs that were run since this was made."""

    def __init__(self, title: str = "search") -> None:
        """`title` names the work: `search` or `confirm`."""
        self._title = title
        self._began = time.monotonic()
        self._epochs_before: int | None = None

    def table(self, experiment: Experiment, leader: Callable[[], str] | None = None) -> Table:
        """Returns the table; `leader` describes what leads if not the best trial."""
        counts = experiment.counts()
        done = counts["finished"] + counts["stopped_early"] + counts["failed"]
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        table.add_row(self._title, Text.assemble(experiment.name, "  ", (str(experiment.path), "dim")))
        table.add_row("trials", counts_in_words(experiment))
        table.add_row("", ProgressBar(total=experiment.num_samples, completed=done, width=48))
        table.add_row("running", _running(experiment))
        if experiment.rungs:
            table.add_row("rungs", _rungs(experiment))
        table.add_row("best so far", (leader or partial(best_so_far, experiment))())
        table.add_row("time left", self._time_left(experiment))
        return table

    def line(self, experiment: Experiment, leader: Callable[[], str] | None = None) -> str:
        """Returns the most important of it in one line."""
        best, left = (leader or partial(best_so_far, experiment))(), self._time_left(experiment)
        return f"{counts_in_words(experiment)} · best so far: {best} · left: {left}"

    def _time_left(self, experiment: Experiment) -> str:
        """From the epochs run in this run, and the epochs a trial took so far on average."""
        if self._epochs_before is None:
            self._epochs_before = experiment.epochs_run
        ran = experiment.epochs_run - self._epochs_before
        ended = [t for t in experiment.trials.values() if t.state in ("stopped_early", "finished")]
        if not ended or ran == 0:
            return "…"
        average = sum(trial.epoch for trial in ended) / len(ended)
        counts = experiment.counts()
        left = counts["pending"] * average + sum(max(0.0, average - t.epoch) for t in experiment.unfinished())
        return f"about {format_duration(left * (time.monotonic() - self._began) / ran)}"


def best_so_far(experiment: Experiment) -> str:
    """Returns accuracy, split, labels, trial and epoch of the best trial."""
    best = experiment.best()
    if best is None:
        return NOTHING
    if experiment.metric != "val_accuracy":
        score = f"{experiment.settings.metric} {format_accuracy(best.score)}"
        return f"{score} on {experiment.labels_kind} validation labels (trial {best.number}, epoch {best.epoch})"
    accuracy = f"{format_accuracy(best.val_accuracy)} on {experiment.labels_kind} validation labels"
    if clean := clean_estimate(experiment, best):
        accuracy += f", about {format_accuracy(clean.accuracy)} on clean ones"
    return f"{accuracy} (trial {best.number}, epoch {best.epoch}, its latest)"


def _running(experiment: Experiment) -> str:
    running = [trial for trial in experiment.unfinished() if trial.state == "running"]
    return ", ".join(f"{t.number} at epoch {t.epoch}/{t.config['epochs']}" for t in running[:6]) or "…"


def _rungs(experiment: Experiment) -> str:
    """Returns how many trials reached each rung, and how many it stopped."""
    trials = [trial for trial in experiment.trials.values() if trial.control is None]
    words = []
    for rung in experiment.rungs:
        came = sum(trial.epoch >= rung for trial in trials)
        stopped = sum(trial.state == "stopped_early" and trial.epoch == rung for trial in trials)
        words.append(f"epoch {rung}: {came} reached it, {stopped} stopped")
    return "; ".join(words) or "none"
