"""What commands print: the closing words of a search, the tables of the reading commands, errors.

Results go to stdout, errors to stderr. Every accuracy says its split and its labels. `progress` prints the rest.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tune_mentormix.config.settings import ENVIRONMENT, STORAGE
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.formatting import NOTHING, format_accuracy, format_duration, format_value
from tune_mentormix.results.summary import counts_in_words, summarize
from tune_mentormix.storage.paths import Location

SEARCHED_FIRST = ("mixup_alpha", "loss_p_percentile", "burn_in", "second_reweight")

WHY_ENDED = {
    "finished": "finished",
    "patience": "ended early, as no better result had come for long enough (--patience),",
    "exhausted": "finished, with every point of the grid tried,",
    "time_budget": "time budget used up",
    "epoch_budget": "epoch budget used up",
    "all_failing": "every trial failed",
}
WIDE = 160  # columns, where no terminal says how many there are

WATCH_SECONDS = 2.0  # between two looks of `status --watch`

stdout = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Prints one JSON document, which may hold pydantic models, on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False, default=BaseModel.model_dump))


def print_error(message: str) -> None:
    """One line on stderr."""
    stderr.print(f"error: {message}", style="red", markup=False)


def print_note(message: str) -> None:
    """One line on stderr about something that passes by itself, or did."""
    stderr.print(message, style="yellow", markup=False)


def print_trained(report: dict[str, float], epochs: int, labels: str, out: Path) -> None:
    """What a training in full came to."""
    accuracy = format_accuracy(report["val_accuracy"])
    stdout.print(f"accuracy {accuracy} on {labels} validation labels at epoch {epochs}, the last")
    stdout.print(f"checkpoint and metrics are in {out}", markup=False)


def warn_of_opening(folder: Path, openings: int) -> None:
    """Said before the test set is opened, on stderr."""
    before = "for the first time" if openings == 0 else f"AGAIN: it was opened {openings} × before"
    stderr.print(f"OPENING THE TEST SET {before}.", style="bold red", markup=False)
    stderr.print(
        f"This is recorded in {folder}. Choose nothing by it: then it would be a test no more.", markup=False
    )


def print_written(path: Path) -> None:
    """Where a page went."""
    stdout.print(f"wrote {path}", markup=False)


def print_end(experiment: Experiment, commands: str) -> None:
    """What a search found, beside the controls at the same number of epochs, and how to go on.

    Args:
        experiment: after its run.
        commands: how the user calls this program, for the commands printed.
    """
    ran = f"{counts_in_words(experiment)}, {experiment.epochs_run} epochs"
    stdout.print(f"\n{experiment.name}: {ran}, {_ended(experiment)}")
    _print_finding(experiment)
    for line in _failures(experiment):
        stdout.print(line, style="yellow", markup=False)
    stdout.print(f"\nEverything is in {experiment.path}")
    storage = storage_option(experiment.path.parent)
    if experiment.state() == "interrupted":
        stdout.print(f"  resume   {commands} resume {experiment.name}{storage}", markup=False)
    else:
        more = experiment.num_samples * 2
        stdout.print(f"  extend   {commands} resume {experiment.name} --trials {more}{storage}", markup=False)
    stdout.print(f"  status   {commands} status {experiment.name}{storage}", markup=False)
    if experiment.counts()["finished"]:
        stdout.print(f"  confirm  {commands} confirm {experiment.name}{storage}", markup=False)
    stdout.print(f"  export   {commands} export {experiment.name} --out best{storage}", markup=False)


def print_status(experiment: Experiment) -> None:
    """The state of one search."""
    ran = f"{counts_in_words(experiment)}, {experiment.epochs_run} epochs"
    stdout.print(f"{experiment.name}: {experiment.state()}, {ran}")
    _print_finding(experiment)
    for line in _failures(experiment):
        stdout.print(line, style="yellow", markup=False)


def print_list(experiments: list[Experiment], storage: Location) -> None:
    """All searches of a storage folder."""
    if not experiments:
        stdout.print(f"no searches in {storage}")
        return
    table = Table("name", "started", "state", "trials", "best", "labels", box=None, pad_edge=False)
    for experiment in experiments:
        best = experiment.best()
        done = experiment.num_samples - experiment.counts()["pending"] - experiment.counts()["running"]
        trials = f"{done}/{experiment.num_samples}"
        accuracy = f"{format_accuracy(best.val_accuracy)} (trial {best.number})" if best else "–"
        table.add_row(
            experiment.name, _started(experiment), experiment.state(), trials, accuracy, experiment.labels_kind
        )
    stdout.print(table)


def print_trials(experiment: Experiment, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Prints trials, one a row."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        shown = row | {"val_accuracy": format_accuracy(row["val_accuracy"])}
        table.add_row(*(Text(format_value(shown[column])) for column in columns))
    stdout.print(table)
    stdout.print(f"Accuracies are on {experiment.labels_kind} validation labels, at each trial's latest epoch.")


def print_facts(facts: dict[str, str]) -> None:
    """Prints names and what they are, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, fact in facts.items():
        table.add_row(Text(name, style="bold"), Text(fact))
    stdout.print(table)


def _print_finding(experiment: Experiment) -> None:
    """The best configuration beside the controls, and whether it is a gain."""
    finding = summarize(experiment)
    if finding.compared:
        stdout.print(_configuration(finding.compared[0].trial))
        table = Table("", f"accuracy, {experiment.labels_kind} validation labels", "epoch", "trial", box=None)
        for compared in finding.compared:
            trial = compared.trial
            epoch = f"{trial.epoch}/{trial.config['epochs']}"
            style = "bold" if compared.behind is None else None
            table.add_row(compared.title, format_accuracy(trial.val_accuracy), epoch, str(trial.number), style=style)
        stdout.print(table)
    stdout.print(f"{finding.headline}. {finding.explanation}")
    _print_peak(finding.compared[0].trial if finding.compared else None)


def _print_peak(best: Trial | None) -> None:
    """Where the best trial was better before its last epoch: by which of the two it is the best."""
    if best is None or best.best_epoch is None or best.curve[best.best_epoch] == best.val_accuracy:
        return
    peak = format_accuracy(best.curve[best.best_epoch])
    stdout.print(
        f"The best is by its last epoch; its highest was {peak}, at epoch {best.best_epoch} (export --weights best)."
    )


def _configuration(trial: Trial) -> str:
    return f"best configuration (trial {trial.number}): {hyperparameters(trial.config)}"


def hyperparameters(config: dict[str, Any]) -> str:
    """Those that decide, of a trial's configuration: `mixup_alpha 8, loss_p_percentile 0.6, …`."""
    return ", ".join(f"{name} {format_value(config[name])}" for name in SEARCHED_FIRST if name in config)


def best_so_far(experiment: Experiment) -> str:
    """Accuracy, split, labels, trial and epoch of the best."""
    best = experiment.best()
    if best is None:
        return "–"
    accuracy = f"{format_accuracy(best.val_accuracy)} on {experiment.labels_kind} validation labels"
    return f"{accuracy} (trial {best.number}, epoch {best.epoch}, its latest)"


def _started(experiment: Experiment) -> str:
    """When the search was started, in local time."""
    try:
        return f"{datetime.fromisoformat(experiment.provenance.started).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return NOTHING


def _failures(experiment: Experiment) -> list[str]:
    failed = [trial for trial in experiment.trials.values() if trial.state == "failed"]
    return [f"trial {trial.number} failed: {trial.error}" for trial in failed[:3]] + (
        [f"… and {len(failed) - 3} more, see `trials`"] if len(failed) > 3 else []
    )


def _ended(experiment: Experiment) -> str:
    return f"{WHY_ENDED.get(experiment.ended or '', 'interrupted')} after {format_duration(experiment.seconds)}"


def storage_option(storage: Location) -> str:
    """The --storage option of a printed command; empty where the command finds that storage without it."""
    default = os.environ.get(ENVIRONMENT["storage"], STORAGE)
    return "" if str(storage) == str(default) else f" --storage {shlex.quote(str(storage))}"
