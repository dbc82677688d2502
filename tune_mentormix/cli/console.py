"""Prints the output of commands: tables, commands to paste, notes, and the findings of a search.

Results go to stdout, errors to stderr. Every accuracy names its split and its labels. `progress` prints the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from tune_mentormix.config.settings import with_storage
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import NOTHING, command, format_accuracy, format_duration, format_value, visible
from tune_mentormix.results.clean_terms import clean_estimate
from tune_mentormix.results.summary import control_title, counts_in_words, state_in_words, summarize
from tune_mentormix.storage.paths import Location

SEARCHED_FIRST = ("mixup_alpha", "loss_p_percentile", "burn_in", "second_reweight")
WHY_ENDED = {
    "finished": "finished",
    "until_gain": "ended early, as further trials are expected to gain too little (--until-gain),",
    "patience": "ended early, as no better result had come for long enough (--patience),",
    "exhausted": "finished, with every point of the grid tried,",
    "time_budget": "time budget used up",
    "epoch_budget": "epoch budget used up",
    "all_failing": "every trial failed",
}
WIDE = 160  # columns, where no terminal reports how many there are
MAX_FAILURES = 3  # reasons of failed trials shown

is_terminal = sys.stdout is not None and sys.stdout.isatty()  # there is none where it was closed: `>&-`


class TextConsole(Console):
    """A console on which texts from files, such as an error with an escape sequence, cannot command the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Renders with control characters made visible, but for the console's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


stdout = TextConsole(highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if is_terminal else WIDE)
stderr = TextConsole(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)


def print_json(document: Any) -> None:
    """Prints one JSON document, which may hold pydantic models, on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False, default=BaseModel.model_dump))


def print_error(message: str) -> None:
    """Prints one line on stderr."""
    stderr.print(f"error: {_in_one_line(message)}", style="red")


def print_note(message: str) -> None:
    """Prints one line on stderr about something that is no error."""
    stderr.print(_in_one_line(message), style="yellow")


def _in_one_line(message: str) -> str:
    return message.replace("\n", "\\n")


def print_written(path: Path) -> None:
    """Prints where a file was written."""
    stdout.print(f"wrote {path}")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]], bold: int | None = None) -> None:
    """Prints a table on stdout; `bold` is the position of the row to emphasize."""
    table = Table(*headings, box=None, pad_edge=False, show_header=bool(headings))
    for position, row in enumerate(rows):
        table.add_row(*row, style="bold" if position == bold else None)
    stdout.print(table)


def print_facts(facts: dict[str, str]) -> None:
    """Prints names and what they are, one a line."""
    print_table((), ([Text(name, style="bold"), fact] for name, fact in facts.items()))


def command_line(words: str, storage: Location | None = None) -> str:
    """Returns a command to paste, with a --storage option if it would not find this storage without one."""
    return command(with_storage(words, storage) if storage else words)


def print_commands(commands: dict[str, str], storage: Location | None = None) -> None:
    """Prints what can be done next, and the command for each."""
    for purpose, words in commands.items():
        stdout.print(f"  {purpose:<8} {command_line(words, storage)}")


def print_end(experiment: Experiment) -> None:
    """Prints what a search found, and the commands to resume or extend it and to use its result."""
    why = f"{WHY_ENDED.get(experiment.ended or '', 'interrupted')} after {format_duration(experiment.seconds)}"
    name, counts = experiment.name, counts_in_words(experiment)
    stdout.print(f"\n{name}: {counts}, {experiment.epochs_run} epochs, {why}")
    _print_finding(experiment)
    stdout.print(f"\nEverything is in {experiment.path}")
    if experiment.state() == "interrupted":
        commands = {"resume": f"resume {name}"}
    else:
        commands = {"extend": f"resume {name} --trials {experiment.num_samples * 2}"}
    commands["status"] = f"status {name}"
    if experiment.counts()["finished"]:
        commands["confirm"] = f"confirm {name}"
    if experiment.best():
        commands["export"] = f"export {name} --out best"
    print_commands(commands, experiment.path.parent)


def print_status(experiment: Experiment) -> None:
    """Prints the state of one search."""
    counts = counts_in_words(experiment)
    stdout.print(f"{experiment.name}: {state_in_words(experiment)}, {counts}, {experiment.epochs_run} epochs")
    if wait := experiment.waiting():
        stdout.print(f"waiting for the storage since {wait}", style="yellow")
    if experiment.nodes and experiment.state() == "running":
        stdout.print(str(experiment.nodes))
    _print_finding(experiment)


def print_list(experiments: list[Experiment], unreadable: dict[str, str], storage: Location) -> None:
    """Prints all searches of a storage, one a row, and why some cannot be read."""
    if not experiments and not unreadable:
        stdout.print(f"no searches in {storage}")
        return
    rows: list[tuple[str, ...]] = []
    for experiment in experiments:
        try:
            started = format_time(datetime.fromisoformat(experiment.provenance.started))
        except ValueError:
            started = NOTHING
        best, counts = experiment.best(), experiment.counts()
        done = experiment.num_samples - counts["pending"] - counts["running"]
        accuracy = f"{format_accuracy(best.val_accuracy)} (trial {best.number})" if best else NOTHING
        clean = clean_estimate(experiment, best) if best else None
        on_clean = f"about {clean}" if clean else NOTHING
        trials = f"{done}/{experiment.num_samples}"
        if counts["failed"]:
            trials += f", {counts['failed']} failed"
        state = state_in_words(experiment)
        owner = experiment.settings.owner or NOTHING
        rows.append((experiment.name, owner, started, state, trials, accuracy, experiment.labels_kind, on_clean))
    rows += [(name, NOTHING, NOTHING, "unreadable", *[NOTHING] * 4) for name in unreadable]
    print_table(("name", "owner", "started", "state", "trials", "best", "labels", "best, on clean labels"), rows)
    print_unreadable(unreadable)


def print_unreadable(searches: dict[str, str]) -> None:
    """Prints why searches cannot be read, by name, one a line on stderr."""
    for name, reason in searches.items():
        print_note(f"{name} cannot be read: {reason}")


def hyperparameters(config: dict[str, Any]) -> str:
    """Returns the most important values of a configuration: `mixup_alpha 8, loss_p_percentile 0.6, …`."""
    return ", ".join(f"{name} {format_value(config[name])}" for name in SEARCHED_FIRST if name in config)


def format_time(time: datetime) -> str:
    """Returns the local time without seconds."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def _print_finding(experiment: Experiment) -> None:
    """Prints the best configuration beside the controls, whether it is a gain, and why trials failed."""
    finding = summarize(experiment)
    if finding.compared:
        best = finding.compared[0].trial
        values = control_title(best) if best.is_baseline else hyperparameters(best.config)
        stdout.print(f"best configuration (trial {best.number}): {values}")
        columns = ["", f"accuracy, {experiment.labels_kind} validation labels", "on clean labels", "epoch", "trial"]
        rows = []
        for compared in finding.compared:
            trial = compared.trial
            clean = f"about {compared.clean}" if compared.clean else NOTHING
            epoch = f"{trial.epoch}/{trial.config['epochs']}"
            rows.append([compared.title, format_accuracy(trial.val_accuracy), clean, epoch, str(trial.number)])
        if not finding.clean_note:
            for cells in (columns, *rows):
                del cells[2]
        print_table(columns, rows, bold=0)
    stdout.print(f"{finding.headline}. {finding.explanation}")
    for note in filter(None, (finding.clean_note, finding.noisy_note, experiment.expected_gain)):
        stdout.print(str(note))
    if finding.compared and best.best_epoch is not None and best.scores[best.best_epoch] != best.score:
        peak = f"{format_accuracy(best.scores[best.best_epoch])}, at epoch {best.best_epoch}"
        stdout.print(f"The best is by its last epoch; its highest was {peak} (export --weights best).")
    failed = [trial for trial in experiment.trials.values() if trial.state == "failed"]
    for trial in failed[:MAX_FAILURES]:
        stdout.print(f"trial {trial.number} failed: {trial.error}", style="yellow")
    if len(failed) > MAX_FAILURES:
        stdout.print(f"… and {len(failed) - MAX_FAILURES} more, see `trials`", style="yellow")
