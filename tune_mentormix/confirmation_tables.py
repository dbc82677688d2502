"""What `confirm` prints: the table of candidates, what the winner is worth against the controls, how to go on."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from tune_mentormix.console import hyperparameters, print_json, stderr, stdout, storage_option
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.formatting import format_duration, format_interval, format_value
from tune_mentormix.results.confirmation import (
    Candidate,
    Confirmation,
    confirmation_record,
    confirmed_rows,
    title,
    verdicts,
)


def print_confirmation(confirmation: Confirmation, experiment: Experiment, commands: str, as_json: bool) -> None:
    """The state of a confirmation; where it is complete, the answer.

    Args:
        confirmation: of the experiment.
        experiment: the search.
        commands: how the user calls this program, for the commands printed.
        as_json: whether to print one JSON document on stdout.
    """
    _print_openings(confirmation)
    if as_json:
        print_json({"name": experiment.name, **confirmation_record(confirmation)})
    else:
        _print_tables(confirmation, experiment, commands)


def _print_tables(confirmation: Confirmation, experiment: Experiment, commands: str) -> None:
    winner = confirmation.winner()
    seeds = len(confirmation.seeds)
    ran = f"{confirmation.ended_trials()} of {confirmation.planned()} runs, {seeds} seeds"
    stdout.print(f"\n{experiment.name}, confirmed: {ran}, {format_duration(confirmation.seconds)}")
    stdout.print(_table(confirmation, winner))
    for name, why in confirmation.ruled_out.items():
        stdout.print(f"{name} was ruled out: {why}", markup=False)
    for candidate in confirmation.candidates:
        failure = confirmation.failure(candidate)
        if failure and candidate.control:
            stdout.print(f"{title(candidate)} {failure}", style="yellow", markup=False)
    if winner:
        stdout.print()
        for sentence in verdicts(confirmation, winner):
            stdout.print(sentence, markup=False)
        stdout.print(f"{title(winner)}: {hyperparameters(winner.config)}", markup=False)
    _print_cautions(confirmation, experiment)
    stdout.print(f"\nEverything is in {confirmation.path}", markup=False)
    if not confirmation.is_complete or confirmation.ended == "interrupted":
        storage = storage_option(experiment.path.parent)
        stdout.print(f"  go on    {commands} confirm {experiment.name}{storage}", markup=False)


def _print_openings(confirmation: Confirmation) -> None:
    """On stderr, that the test set was opened more than once, or could not be opened."""
    if confirmation.no_test:
        stderr.print(f"there is no test set to open: {confirmation.no_test}", style="yellow", markup=False)
    if len(confirmation.openings) > 1:
        dates = ", ".join(opening["opened"] for opening in confirmation.openings)
        times = f"The test set was opened {len(confirmation.openings)} times ({dates})"
        caution = (
            "what was changed after the first may owe its accuracy to it: say so wherever you quote these figures"
        )
        stderr.print(f"WARNING: {times}; {caution}.", style="bold red", markup=False)


def leader_so_far(confirmation: Confirmation) -> str:
    """The leading candidate, for the progress shown."""
    leader = next(iter(confirmation.ranking()), None)
    if leader is None:
        return "–"
    accuracy = format_interval(confirmation.validation(leader))
    return f"{title(leader)}, {accuracy} on {confirmation.labels_kind} validation labels"


def _table(confirmation: Confirmation, winner: Candidate | None) -> Table:
    """Every candidate, those that compete first, by rank."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "rank by search", "rank confirmed", "seeds"):
        table.add_column(heading)
    table.add_column(f"validation, {confirmation.labels_kind} labels")
    if confirmation.opening:
        table.add_column("test, clean labels")
    for row in confirmed_rows(confirmation):
        ranks = (format_value(row.candidate.search_rank), format_value(row.rank))
        cells = [row.title, *ranks, str(row.seeds), format_interval(row.validation)]
        if confirmation.opening:
            cells.append(format_interval(row.test))
        table.add_row(*map(Text, cells), style="bold" if row.candidate == winner else None)
    return table


def _print_cautions(confirmation: Confirmation, experiment: Experiment) -> None:
    opening = confirmation.opening
    if opening:
        stdout.print(
            f"Intervals are over seeds, at 95 %, on the same images: {opening['images']} in the test set, which was "
            f"opened at {opening['opened']}, after the winner was chosen on validation.",
            markup=False,
        )
    later = experiment.ended_trials() - confirmation.searched
    if later:
        stdout.print(f"The search has run {later} more trials since these candidates were chosen.", style="yellow")
