"""The live table of a running search and the progress bar of a training, on stderr; the work outlives its output."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from tune_mentormix.cli.console import print_note, stderr
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.output import guarded
from tune_mentormix.results.progress import ProgressTable

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
        self._progress = ProgressTable(title)
        self._note = note or hint("resume")
        self._live = Live(console=stderr, auto_refresh=False, transient=True) if stderr.is_terminal else None
        self._shown = 0.0

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
        now = time.monotonic()
        if now - self._shown < (REFRESH_SECONDS if self._live else LINE_SECONDS):
            return
        self._shown = now
        if self._live and not stderr.is_terminal:  # it was closed; what is written next tells the journal so
            self._live.stop()
            self._live = None
        if self._live:
            note = Text(self._note, style="dim")
            self._live.update(Group(self._progress.table(experiment, leader), note), refresh=True)
        else:
            stderr.print(self._progress.line(experiment, leader))


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
