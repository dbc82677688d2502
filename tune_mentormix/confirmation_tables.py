"""What `confirm` prints: the table of candidates, what the winner is worth against the controls, how to go on."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from tune_mentormix.candidates import Candidate
from tune_mentormix.confirmation import Confirmation
from tune_mentormix.console import CONTROL_TITLES, duration, print_json, stderr, stdout, storage_option
from tune_mentormix.experiment import Experiment
from tune_mentormix.intervals import Interval


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
        print_json({"name": experiment.name, **confirmation_json(confirmation)})
    else:
        _print_tables(confirmation, experiment, commands)


def _print_tables(confirmation: Confirmation, experiment: Experiment, commands: str) -> None:
    winner = confirmation.winner()
    seeds = len(confirmation.seeds)
    ran = f"{confirmation.ended_trials()} of {confirmation.planned()} runs, {seeds} seeds"
    stdout.print(f"\n{experiment.name}, confirmed: {ran}, {duration(confirmation.seconds)}")
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


def verdicts(confirmation: Confirmation, winner: Candidate) -> list[str]:
    """Sentences: what the winner is worth against each control, on the test set if it was opened."""
    validation, test = f"the {confirmation.labels_kind} validation labels", "the clean test labels"
    sentences = [
        f"The winner is {title(winner)}{', a control itself: nothing found beats it' if winner.control else ''}."
    ]
    for control in confirmation.controls_beside(winner):
        for where, on_test in ((test, True), (validation, False)):
            gain = confirmation.gain(winner, control, on_test)
            if gain is not None:
                sentences.append(_verdict(gain, title(control), where))
    return sentences


def confirmation_json(confirmation: Confirmation) -> dict[str, Any]:
    """What `confirm --json` shows."""
    winner = confirmation.winner()
    ranks = {candidate.name: rank for rank, candidate in enumerate(confirmation.ranking(), start=1)}
    return {
        "state": confirmation.state(),
        "ended": confirmation.ended,
        "top_k": confirmation.top_k,
        "seeds": confirmation.seeds,
        "labels": {"validation": confirmation.labels_kind, "test": "clean"},
        "candidates": [
            candidate.as_json()
            | {
                "confirmed_rank": ranks.get(candidate.name),
                "ruled_out": confirmation.ruled_out.get(candidate.name),
                "validation": _measured(confirmation.validation(candidate), confirmation.accuracies(candidate)),
                "test": _measured(confirmation.test(candidate), confirmation.test_accuracies(candidate)),
            }
            for candidate in confirmation.candidates
        ],
        "winner": winner and winner.name,
        "gains": [
            {"over": control.name, "split": "test" if on_test else "validation", **gain.as_json()}
            for control in (confirmation.controls_beside(winner) if winner else [])
            for on_test in (False, True)
            if winner and (gain := confirmation.gain(winner, control, on_test))
        ],
        "verdicts": verdicts(confirmation, winner) if winner else [],
        "openings": confirmation.openings,
    }


def title(candidate: Candidate) -> str:
    """A control's in words, or `trial 7`."""
    return CONTROL_TITLES.get(candidate.name, candidate.name)


def leader_so_far(confirmation: Confirmation) -> str:
    """The leading candidate, for the progress shown."""
    leader = next(iter(confirmation.ranking()), None)
    if leader is None:
        return "–"
    accuracy = _in_words(confirmation.validation(leader))
    return f"{title(leader)}, {accuracy} on {confirmation.labels_kind} validation labels"


def _table(confirmation: Confirmation, winner: Candidate | None) -> Table:
    """Every candidate, those that compete first, by rank."""
    ranked = confirmation.ranking()
    table = Table(box=None, pad_edge=False)
    for heading in ("", "rank by search", "rank confirmed", "seeds"):
        table.add_column(heading)
    table.add_column(f"validation, {confirmation.labels_kind} labels")
    if confirmation.opening:
        table.add_column("test, clean labels")
    for candidate in [*ranked, *(c for c in confirmation.candidates if c not in ranked)]:
        cells = [
            title(candidate),
            "–" if candidate.search_rank is None else str(candidate.search_rank),
            str(ranked.index(candidate) + 1) if candidate in ranked else "–",
            str(len(confirmation.accuracies(candidate))),
            _in_words(confirmation.validation(candidate)),
        ]
        if confirmation.opening:
            cells.append(_in_words(confirmation.test(candidate)))
        table.add_row(*map(Text, cells), style="bold" if candidate == winner else None)
    return table


def _verdict(gain: Interval, control: str, where: str) -> str:
    points = f"{abs(100 * gain.mean):.1f} points"
    if gain.low is None or gain.high is None:
        return f"On {where} only one seed can be compared with {control}: nothing can be said."
    interval = f"95 % interval {100 * gain.low:.1f} … {100 * gain.high:.1f}, {gain.n} seeds"
    if gain.is_above_zero:
        return f"It beats {control} by {points} ({interval}) on {where}."
    if gain.is_below_zero:
        return f"It is worse than {control} by {points} ({interval}) on {where}."
    difference = f"difference {100 * gain.mean:+.1f} points, {interval}"
    return f"It is not better than {control}: a tie ({difference}) on {where}."


def _print_cautions(confirmation: Confirmation, experiment: Experiment) -> None:
    opening = confirmation.opening
    if opening:
        stdout.print(
            f"Intervals are over seeds, at 95 %. The test set ({opening['images']} images) was opened at "
            f"{opening['opened']}, after the winner was chosen on validation.",
            markup=False,
        )
    later = experiment.ended_trials() - confirmation.searched
    if later:
        stdout.print(f"The search has run {later} more trials since these candidates were chosen.", style="yellow")


def _measured(interval: Interval | None, accuracies: dict[int, float]) -> dict[str, Any] | None:
    return {**interval.as_json(), "by_seed": accuracies} if interval else None


def _in_words(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.mean:.4f}" + ("" if interval.half_width is None else f" ± {interval.half_width:.4f}")
