"""Everything that is printed: the live view of a search, its closing words, and the tables of the reading commands.

Results go to stdout, progress and errors to stderr. Every accuracy says its split and its labels.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_mentormix.experiment import Experiment, Trial

SEARCHED_FIRST = ("mixup_alpha", "loss_p_percentile", "burn_in", "second_reweight")
REFRESH_SECONDS = 0.25
LINE_SECONDS = 10.0  # between progress lines where no terminal shows a live table

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def print_error(message: str) -> None:
    """One line on stderr."""
    stderr.print(f"error: {message}", style="red", markup=False)


class SearchProgress:
    """The live table of a running search; plain lines now and then where stderr is no terminal."""

    def __init__(self) -> None:
        self._live = Live(console=stderr, auto_refresh=False, transient=True) if stderr.is_terminal else None
        self._shown = 0.0
        self._began = time.monotonic()
        self._epochs_before: int | None = None

    def __enter__(self) -> SearchProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, experiment: Experiment) -> None:
        """Shows the experiment's state, if it is time to."""
        now = time.monotonic()
        if self._epochs_before is None:
            self._epochs_before = experiment.epochs_run
        if now - self._shown < (REFRESH_SECONDS if self._live else LINE_SECONDS):
            return
        self._shown = now
        if self._live:
            self._live.update(self._table(experiment), refresh=True)
        else:
            stderr.print(self._line(experiment))

    def _table(self, experiment: Experiment) -> RenderableType:
        counts = experiment.counts()
        done = counts["finished"] + counts["stopped_early"] + counts["failed"]
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        table.add_row("search", f"{experiment.name}  [dim]{experiment.path}[/dim]")
        table.add_row("trials", _counts(experiment))
        table.add_row("", ProgressBar(total=experiment.num_samples, completed=done, width=48))
        table.add_row("running", _running(experiment))
        table.add_row("best so far", _best_so_far(experiment))
        table.add_row("time left", self._time_left(experiment))
        return Group(table, Text("Ctrl-C stops cleanly; `resume` goes on.", style="dim"))

    def _line(self, experiment: Experiment) -> str:
        return (
            f"{_counts(experiment)} · best so far: {_best_so_far(experiment)} · left: {self._time_left(experiment)}"
        )

    def _time_left(self, experiment: Experiment) -> str:
        """From the epochs run in this run, and the epochs a trial took so far on average."""
        ran = experiment.epochs_run - (self._epochs_before or 0)
        ended = [t for t in experiment.trials.values() if t.state in ("stopped_early", "finished")]
        if not ended or ran == 0:
            return "…"
        average = sum(trial.epoch for trial in ended) / len(ended)
        counts = experiment.counts()
        left = counts["pending"] * average + sum(max(0.0, average - t.epoch) for t in experiment.unfinished())
        return f"about {_duration(left * (time.monotonic() - self._began) / ran)}"


class TrainingProgress:
    """A progress bar of one training in full."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=stderr,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, report: dict[str, float], epochs: int) -> None:
        """Shows one epoch's report."""
        text = f"validation accuracy {report['val_accuracy']:.4f}"
        self._progress.update(self._task, completed=report["epoch"], total=epochs, description=text)


def print_trained(report: dict[str, float], epochs: int, labels: str, out: Path) -> None:
    """What a training in full came to."""
    accuracy = _accuracy(report["val_accuracy"])
    stdout.print(f"accuracy {accuracy} on {labels} validation labels at epoch {epochs}, the last")
    stdout.print(f"checkpoint and metrics are in {out}", markup=False)


def print_exported(path: Path, commands: str) -> None:
    """Where the configuration went, and how to train it."""
    stdout.print(f"wrote {path}", markup=False)
    stdout.print(f"  train    {commands} train {path}", markup=False)


def print_end(experiment: Experiment, commands: str) -> None:
    """What a search found, beside the controls at the same number of epochs, and how to go on.

    Args:
        experiment: after its run.
        commands: how the user calls this program, for the commands printed.
    """
    best = experiment.best()
    split = f"{experiment.labels_kind} validation labels"
    stdout.print(f"\n{experiment.name}: {_counts(experiment)}, {experiment.epochs_run} epochs, {_ended(experiment)}")
    if best:
        stdout.print(_configuration(best))
        stdout.print(_comparison(experiment, best, split))
        stdout.print(_verdict(experiment, best))
    for line in _failures(experiment):
        stdout.print(line, style="yellow", markup=False)
    stdout.print(f"\nEverything is in {experiment.path}")
    storage = _storage_option(experiment.path.parent)
    if experiment.state() == "interrupted":
        stdout.print(f"  go on    {commands} resume {experiment.name}{storage}", markup=False)
    else:
        more = experiment.num_samples * 2
        stdout.print(f"  extend   {commands} resume {experiment.name} --num-samples {more}{storage}", markup=False)
    stdout.print(f"  look     {commands} status {experiment.name}{storage}", markup=False)
    stdout.print(f"  export   {commands} export {experiment.name} --out best{storage}", markup=False)


def print_status(experiment: Experiment) -> None:
    """The state of one search."""
    best = experiment.best()
    stdout.print(f"{experiment.name}: {experiment.state()}, {_counts(experiment)}, {experiment.epochs_run} epochs")
    if best:
        stdout.print(_configuration(best))
        stdout.print(_comparison(experiment, best, f"{experiment.labels_kind} validation labels"))
    for line in _failures(experiment):
        stdout.print(line, style="yellow", markup=False)


def print_list(experiments: list[Experiment], storage: Path) -> None:
    """All searches of a storage folder."""
    if not experiments:
        stdout.print(f"no searches in {storage}")
        return
    table = Table("name", "state", "trials", "best", "labels", box=None, pad_edge=False)
    for experiment in experiments:
        best = experiment.best()
        done = experiment.num_samples - experiment.counts()["pending"] - experiment.counts()["running"]
        trials = f"{done}/{experiment.num_samples}"
        accuracy = f"{_accuracy(best.val_accuracy)} (trial {best.number})" if best else "–"
        table.add_row(experiment.name, experiment.state(), trials, accuracy, experiment.labels_kind)
    stdout.print(table)


def print_trials(experiment: Experiment) -> None:
    """All trials of one search, with what was searched."""
    searched = _searched(experiment)
    table = Table("trial", "state", "epoch", "val. accuracy", *searched, "restarts", "note", box=None, pad_edge=False)
    for number in sorted(experiment.trials):
        trial = experiment.trials[number]
        values = [_value(trial.config[name]) for name in searched]
        note = trial.error or (f"control: {trial.control}" if trial.control else "")
        restarts = str(trial.attempt - 1)
        table.add_row(
            str(number), trial.state, str(trial.epoch), _accuracy(trial.val_accuracy), *values, restarts, Text(note)
        )
    stdout.print(table)
    stdout.print(f"Accuracies are on {experiment.labels_kind} validation labels, at each trial's latest epoch.")


def _comparison(experiment: Experiment, best: Trial, split: str) -> Table:
    epochs = int(best.config["epochs"])
    table = Table("", f"accuracy, {split}", "epoch", "trial", box=None, pad_edge=False)
    table.add_row(
        "best found", _accuracy(best.val_accuracy), f"{best.epoch}/{epochs}", str(best.number), style="bold"
    )
    titles = {"published": "published setting", "mixup": "plain mixup", "plain": "plain training"}
    controls = experiment.controls()
    for name, title in titles.items():
        if name in controls:
            trial = controls[name]
            table.add_row(title, _accuracy(trial.val_accuracy), f"{trial.epoch}/{epochs}", str(trial.number))
    return table


def _verdict(experiment: Experiment, best: Trial) -> str:
    if best.state != "finished":
        return "No trial ran to the end yet: the best is by latest reports, at different epochs."
    beaten_by = [
        name
        for name, trial in experiment.controls().items()
        if trial.number != best.number and (trial.val_accuracy or 0) >= (best.val_accuracy or 0)
    ]
    if beaten_by:
        return f"The best found is not better than {' and '.join(beaten_by)}: this search found no gain."
    return (
        "'Best' is by the last epoch's accuracy, chosen among all trials on these same labels: a little flattering."
    )


def _configuration(trial: Trial) -> str:
    names = [name for name in SEARCHED_FIRST if name in trial.config]
    return f"best configuration (trial {trial.number}): " + ", ".join(
        f"{name} {_value(trial.config[name])}" for name in names
    )


def _searched(experiment: Experiment) -> list[str]:
    space = experiment.settings.get("space")
    return [name for name, entry in space.items() if isinstance(entry, dict)] if isinstance(space, dict) else []


def _counts(experiment: Experiment) -> str:
    counts = experiment.counts()
    shown = [f"{count} {state.replace('_', ' ')}" for state, count in counts.items() if count]
    return ", ".join(shown) + f" of {experiment.num_samples}"


def _running(experiment: Experiment) -> str:
    running = [trial for trial in experiment.unfinished() if trial.state == "running"]
    return ", ".join(f"{t.number} at epoch {t.epoch}/{t.config['epochs']}" for t in running[:6]) or "…"


def _best_so_far(experiment: Experiment) -> str:
    best = experiment.best()
    if best is None:
        return "–"
    accuracy = f"{_accuracy(best.val_accuracy)} on {experiment.labels_kind} validation labels"
    return f"{accuracy} (trial {best.number}, epoch {best.epoch})"


def _failures(experiment: Experiment) -> list[str]:
    failed = [trial for trial in experiment.trials.values() if trial.state == "failed"]
    return [f"trial {trial.number} failed: {trial.error}" for trial in failed[:3]] + (
        [f"… and {len(failed) - 3} more, see `trials`"] if len(failed) > 3 else []
    )


def _ended(experiment: Experiment) -> str:
    took = (experiment.last_event or 0) - (experiment.first_event or 0)
    reasons = {"finished": "finished", "time_budget": "time budget used up", "all_failing": "every trial failed"}
    return f"{reasons.get(experiment.ended or '', 'interrupted')} after {_duration(took)}"


def _storage_option(storage: Path) -> str:
    return "" if storage == Path("results") else f" --storage {storage}"


def _accuracy(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
