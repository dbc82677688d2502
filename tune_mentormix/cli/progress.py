"""The live table of a running search and the progress bar of a training, on stderr; the work outlives its output."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_mentormix.cli.console import best_so_far, print_note, stderr
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import NOTHING, format_duration
from tune_mentormix.output import guarded
from tune_mentormix.results.summary import counts_in_words

REFRESH_SECONDS = 0.25
LINE_SECONDS = 10.0  # between progress lines where no terminal shows a live table


@contextmanager
def long_work() -> Iterator[None]:
    """While the block runs, no output that goes away ends it, and SIGTERM and SIGHUP interrupt it as Ctrl-C does.

    SIGHUP, which a terminal sends that is closed, stays ignored under `nohup`. A second one changes nothing: a shell
    and its terminal send one each.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise KeyboardInterrupt

    def tell(reason: str) -> None:
        print_note(f"stdout cannot be written: {reason}. The work continues without it")

    handled = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        handled = []
    before = {number: signal.signal(number, interrupt) for number in handled}
    try:
        with guarded("stdout", tell):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class SearchProgress:
    """The live table of a running search; plain lines now and then where stderr is no terminal."""

    def __init__(self, title: str = "search", note: str = "") -> None:
        """Prepares the table; `note` is the line below it."""
        self._title = title
        self._note = note or hint("resume")
        self._leader: Callable[[], str] = lambda: NOTHING
        self._live = Live(console=stderr, auto_refresh=False, transient=True) if stderr.is_terminal else None
        self._shown = 0.0
        self._began = time.monotonic()
        self._epochs_before: int | None = None

    def __enter__(self) -> SearchProgress:
        if self._live:
            self._live.start()
            self._live.update(Text("Starting Ray and loading the data …", style="dim"), refresh=True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, experiment: Experiment, leader: Callable[[], str] | None = None) -> None:
        """Shows the experiment's state, if it is time to; `leader` describes what leads if not the best trial."""
        self._leader = leader or partial(best_so_far, experiment)
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
        table.add_row(self._title, Text.assemble(experiment.name, "  ", (str(experiment.path), "dim")))
        table.add_row("trials", counts_in_words(experiment))
        table.add_row("", ProgressBar(total=experiment.num_samples, completed=done, width=48))
        table.add_row("running", _running(experiment))
        if experiment.rungs:
            table.add_row("rungs", _rungs(experiment))
        table.add_row("best so far", self._leader())
        table.add_row("time left", self._time_left(experiment))
        return Group(table, Text(self._note, style="dim"))

    def _line(self, experiment: Experiment) -> str:
        counts, best, left = counts_in_words(experiment), self._leader(), self._time_left(experiment)
        return f"{counts} · best so far: {best} · left: {left}"

    def _time_left(self, experiment: Experiment) -> str:
        """From the epochs run in this run, and the epochs a trial took so far on average."""
        ran = experiment.epochs_run - (self._epochs_before or 0)
        ended = [t for t in experiment.trials.values() if t.state in ("stopped_early", "finished")]
        if not ended or ran == 0:
            return "…"
        average = sum(trial.epoch for trial in ended) / len(ended)
        counts = experiment.counts()
        left = counts["pending"] * average + sum(max(0.0, average - t.epoch) for t in experiment.unfinished())
        return f"about {format_duration(left * (time.monotonic() - self._began) / ran)}"


def hint(command: str) -> str:
    """Returns how to interrupt the work that is shown, and the command that continues it."""
    return f"Ctrl-C stops cleanly; `{command}` continues."


@contextmanager
def training_progress() -> Iterator[Callable[[dict[str, float], int], None]]:
    """Shows the progress bar of one training on a terminal; yields what shows an epoch's report, given all epochs."""
    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    shown = [*columns, TextColumn("{task.description}")]
    with Progress(*shown, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def show(report: dict[str, float], epochs: int) -> None:
            name = "validation accuracy" if "val_accuracy" in report else "training loss"
            text = f"{name} {report.get('val_accuracy', report['train_loss']):.4f}"
            progress.update(task, completed=report["epoch"], total=epochs, description=text)

        yield show


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
