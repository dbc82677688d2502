"""Summarizes a confirmation: its JSON, and the verdict on the winner in sentences."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tune_mentormix.config.settings import with_storage
from tune_mentormix.errors import RequestError, SearchFailedError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.candidates import Ablation, Candidate
from tune_mentormix.results.confirmation import Accuracies, Confirmation, read_confirmation
from tune_mentormix.results.statistics import ConfidenceInterval, confidence_interval
from tune_mentormix.storage.journal import JOURNAL_FILE

BY_CHANCE = ": chance can explain that."


def confirmation_record(confirmation: Confirmation) -> dict[str, Any]:
    """Returns what `confirm --json` shows."""
    winner = confirmation.winner()
    record = {
        "state": confirmation.runs.state(),
        "ended": confirmation.runs.ended,
        "metric": confirmation.runs.settings.metric,
        "top_k": confirmation.top_k,
        "seeds": confirmation.seeds,
        "folds": confirmation.folds,
        "labels": {"validation": confirmation.runs.labels_kind, "test": "clean"},
        "candidates": [
            asdict(candidate)
            | {
                "confirmed_rank": confirmation.rank(candidate),
                "ruled_out": confirmation.eliminated.get(candidate.name),
                "validation": _measured(confirmation.accuracies(candidate)),
                "validation_best_epoch": _measured(confirmation.best_epoch_accuracies(candidate)),
                "clean_estimate": confirmation.clean_estimate(candidate),
                "test": _measured(confirmation.test_accuracies(candidate)),
            }
            for candidate in confirmation.candidates
        ],
        "winner": winner and winner.name,
        "gains": _gains(confirmation, winner) if winner else [],
        "verdicts": verdicts(confirmation, winner) if winner else [],
        "openings": confirmation.test_evaluations,
    }
    if ablations := confirmation.ablations():
        record["ablations"] = [_ablation_record(confirmation, ablation) for ablation in ablations]
    return record


def check_confirmation(confirmation: Confirmation) -> None:
    """Raises SearchFailedError if so many runs of a confirmation failed that it has no answer."""
    if confirmation.is_complete and confirmation.winner() is None:
        first = next(run for run in confirmation.runs.trials.values() if run.state == "failed")
        raise SearchFailedError(f"a run of every candidate failed, so there is no winner; the first: {first.error}")
    if confirmation.runs.ended == "all_failing":
        first = next(run for run in confirmation.runs.trials.values() if run.state == "failed")
        raise SearchFailedError(f"every run failed; the first: {first.error}")


def _ablation_record(confirmation: Confirmation, ablation: Ablation) -> dict[str, Any]:
    difference = confirmation.difference_to_winner(ablation)
    return {
        "hyperparameter": ablation.hyperparameter,
        "winner": ablation.winner_value,
        "published": ablation.published_value,
        "config": ablation.config,
        "validation": _measured(confirmation.accuracies(ablation)),
        "difference": difference and difference.as_json(),
    }


def confirmed_best(experiment: Experiment, with_mentor: bool = False) -> tuple[Trial, dict[str, Any]] | None:
    """Returns the trial that won the search's confirmation, if there is a winner, and a record of what was found.

    `with_mentor` asks for the best with MentorMix where the winner is none; there is none if all of those failed.
    The search may not have trained the trial to the end. Raises RequestError if it never was a trial of the search.
    """
    confirmation = read_confirmation(experiment)
    best = confirmation.winner(with_mentor) if confirmation else None
    if confirmation is None or best is None:
        return None
    if best.trial is None:
        name, show = best.in_a_sentence, with_storage(f"confirm {experiment.name} --json", experiment.path.parent)
        raise RequestError(f"{name} won the confirmation, but the search has no trial of it; its setting: {show}")
    if best.trial not in experiment.trials:
        raise RequestError(
            f"{experiment.path / JOURNAL_FILE} has no trial {best.trial}, which won the confirmation: put back the "
            "journal that was there"
        )
    record = {
        "seeds": confirmation.seeds,
        "folds": confirmation.folds,
        "candidates": len(confirmation.candidates),
        "is_winner": best == confirmation.winner(),
        "accuracies": [
            {"split": split, "labels": labels, "metric": metric, **interval.as_json()}
            for split, labels, metric, interval in (
                (
                    "validation",
                    confirmation.runs.labels_kind,
                    confirmation.runs.settings.metric,
                    confirmation.validation(best),
                ),
                ("test", "clean", "accuracy", confirmation.test(best)),
            )
            if interval
        ],
        "gains": _gains(confirmation, best),
        "verdicts": verdicts(confirmation, best),
        "test_set_opened": [evaluation["opened"] for evaluation in confirmation.test_evaluations],
    }
    return experiment.trials[best.trial], record


def verdicts(confirmation: Confirmation, candidate: Candidate) -> list[str]:
    """Describes what the winner is worth against its rivals, on the test set if it was evaluated there.

    So it does for the best with MentorMix where that is not the winner.
    """
    validation, test = f"the {confirmation.runs.labels_kind} validation labels", "the clean test labels"
    if confirmation.runs.metric != "val_accuracy":
        validation, test = f"{validation} by {confirmation.runs.settings.metric}", f"{test} by accuracy"
    winner = confirmation.winner()
    if winner and winner != candidate:
        others = f"the best with MentorMix is {candidate.in_a_sentence}"
        sentences = [f"The winner is {winner.in_a_sentence}; {others}."]
    elif not candidate.uses_mentor:
        sentences = [f"{candidate.title.capitalize()} is best here: on this budget MentorMix does not help."]
    else:
        honest = ", a control itself: nothing found beats it" if candidate.control else ""
        sentences = [f"The winner is {candidate.in_a_sentence}{honest}."]
    for rival in confirmation.rivals(candidate):
        for where, on_test in ((test, True), (validation, False)):
            gain = confirmation.gain(candidate, rival, on_test)
            if gain is not None:
                sentences.append(_verdict(gain, rival.in_a_sentence, where))
    if any(sentence.endswith(BY_CHANCE) for sentence in sentences):
        sentences.append("More seeds may decide it (--seeds).")
    if not candidate.uses_mentor:
        sentences.append(
            "Longer training may change this: MentorMix helps once plain training memorises wrong labels, so that "
            "its accuracy falls after its best epoch."
        )
    return sentences


def _gains(confirmation: Confirmation, winner: Candidate) -> list[dict[str, Any]]:
    return [
        {"over": rival.name, "split": split, "labels": labels, **gain.as_json()}
        for rival in confirmation.rivals(winner)
        for split, labels in (("validation", confirmation.runs.labels_kind), ("test", "clean"))
        if (gain := confirmation.gain(winner, rival, on_test=split == "test"))
    ]


def _verdict(gain: ConfidenceInterval, rival: str, where: str) -> str:
    points = f"{abs(100 * gain.mean):.1f} points"
    if gain.low is None or gain.high is None:
        if gain.n == 1:
            return f"On {where} only one seed can be compared with {rival}: that is too little to judge."
        differs = f"it differs from {rival} by {points} on each of {gain.n} seeds"
        return f"On {where} {differs}: without spread there is no interval."
    interval = f"95 % interval {100 * gain.low:.2f} … {100 * gain.high:.2f}, {gain.n} seeds"
    if gain.is_above_zero:
        return f"It beats {rival} by {points} ({interval}) on {where}."
    if gain.is_below_zero:
        return f"It is worse than {rival} by {points} ({interval}) on {where}."
    side = "ahead of" if gain.mean >= 0 else "behind"
    return f"It is {points} {side} {rival} ({interval}) on {where}{BY_CHANCE}"


def _measured(accuracies: Accuracies) -> dict[str, Any] | None:
    return {**confidence_interval([*accuracies.values()]).as_json(), "by_seed": accuracies} if accuracies else None
