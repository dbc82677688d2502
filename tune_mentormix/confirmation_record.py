"""What a confirmation says: as one document, and in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tune_mentormix.candidates import Candidate
from tune_mentormix.confirmation import Confirmation, read_confirmation
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.findings import CONTROL_TITLES
from tune_mentormix.intervals import Interval


def confirmation_record(confirmation: Confirmation) -> dict[str, Any]:
    """Everything, as `confirm --json` shows it."""
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
        "gains": _gains(confirmation, winner) if winner else [],
        "verdicts": verdicts(confirmation, winner) if winner else [],
        "openings": confirmation.openings,
    }


@dataclass(frozen=True)
class ConfirmedRow:
    """One candidate as a line of the table."""

    title: str
    candidate: Candidate
    rank: int | None  # None: a baseline, which does not compete
    seeds: int  # that it finished
    validation: Interval | None
    test: Interval | None  # None: not tested


def confirmed_rows(confirmation: Confirmation) -> list[ConfirmedRow]:
    """Every candidate: those that compete by rank, then the others."""
    ranked = confirmation.ranking()
    return [
        ConfirmedRow(
            title=title(candidate),
            candidate=candidate,
            rank=ranked.index(candidate) + 1 if candidate in ranked else None,
            seeds=len(confirmation.accuracies(candidate)),
            validation=confirmation.validation(candidate),
            test=confirmation.test(candidate),
        )
        for candidate in [*ranked, *(c for c in confirmation.candidates if c not in ranked)]
    ]


@dataclass(frozen=True)
class Confirmed:
    """The winner of a confirmation: the trial that it was in the search, and what was found of it since."""

    trial: Trial
    record: dict[str, Any]


def confirmed_winner(experiment: Experiment) -> Confirmed | None:
    """The winner of the search's confirmation, if there is one; the search may not have trained it to the end.

    Raises:
        RequestError: if it never was a trial of the search.
    """
    confirmation = read_confirmation(experiment)
    winner = confirmation.winner() if confirmation else None
    if confirmation is None or winner is None:
        return None
    if winner.trial is None:
        name, show = _in_a_sentence(winner), f"confirm {experiment.name} --json"
        raise RequestError(f"{name} won the confirmation, but the search has no trial of it; its setting: {show}")
    record = {
        "seeds": confirmation.seeds,
        "candidates": len(confirmation.candidates),
        "accuracies": [
            {"split": split, "labels": labels, **interval.as_json()}
            for split, labels, interval in (
                ("validation", confirmation.labels_kind, confirmation.validation(winner)),
                ("test", "clean", confirmation.test(winner)),
            )
            if interval
        ],
        "gains": _gains(confirmation, winner),
        "verdicts": verdicts(confirmation, winner),
        "test_set_opened": [opening["opened"] for opening in confirmation.openings],
    }
    return Confirmed(experiment.trials[winner.trial], record)


def verdicts(confirmation: Confirmation, winner: Candidate) -> list[str]:
    """Sentences: what the winner is worth against each control, on the test set if it was opened."""
    validation, test = f"the {confirmation.labels_kind} validation labels", "the clean test labels"
    honest = ", a control itself: nothing found beats it" if winner.control else ""
    sentences = [f"The winner is {_in_a_sentence(winner)}{honest}."]
    for control in confirmation.controls_beside(winner):
        for where, on_test in ((test, True), (validation, False)):
            gain = confirmation.gain(winner, control, on_test)
            if gain is not None:
                sentences.append(_verdict(gain, _in_a_sentence(control), where))
    return sentences


def title(candidate: Candidate) -> str:
    """A control's in words, or `trial 7`."""
    return CONTROL_TITLES.get(candidate.name, candidate.name)


def _gains(confirmation: Confirmation, winner: Candidate) -> list[dict[str, Any]]:
    return [
        {"over": control.name, "split": split, "labels": labels, **gain.as_json()}
        for control in confirmation.controls_beside(winner)
        for split, labels in (("validation", confirmation.labels_kind), ("test", "clean"))
        if (gain := confirmation.gain(winner, control, on_test=split == "test"))
    ]


def _in_a_sentence(candidate: Candidate) -> str:
    return f"the {title(candidate)}" if candidate.name == "published" else title(candidate)


def _verdict(gain: Interval, control: str, where: str) -> str:
    points = f"{abs(100 * gain.mean):.1f} points"
    if gain.low is None or gain.high is None:
        if gain.n == 1:
            return f"On {where} only one seed can be compared with {control}: nothing can be said."
        return f"On {where} it differs from {control} by {points} on each of {gain.n} seeds: nothing can be said."
    interval = f"95 % interval {100 * gain.low:.2f} … {100 * gain.high:.2f}, {gain.n} seeds"
    if gain.is_above_zero:
        return f"It beats {control} by {points} ({interval}) on {where}."
    if gain.is_below_zero:
        return f"It is worse than {control} by {points} ({interval}) on {where}."
    difference = f"difference {100 * gain.mean:+.1f} points, {interval}"
    return f"It is not better than {control}: a tie ({difference}) on {where}."


def _measured(interval: Interval | None, accuracies: dict[int, float]) -> dict[str, Any] | None:
    return {**interval.as_json(), "by_seed": accuracies} if interval else None
