"""What a search found, in plain words: the best trial beside the controls, and whether its lead is a gain."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, sqrt
from statistics import NormalDist

from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.formatting import format_points

CONTROL_TITLES = {"published": "published setting", "mixup": "plain mixup", "plain": "plain training"}


@dataclass(frozen=True)
class ComparedTrial:
    """The best found, or a control, as one line of the comparison."""

    title: str
    trial: Trial
    behind: float | None  # the best's accuracy minus this one's; None for the best itself


@dataclass(frozen=True)
class SearchSummary:
    """What a search found."""

    headline: str
    explanation: str
    compared: list[ComparedTrial]  # the best first, then the controls that ran to the end


def summarize(experiment: Experiment) -> SearchSummary:
    """Summarizes what the search found; also one that is unfinished, or failed."""
    best = experiment.best()
    if best is None:
        if experiment.counts()["failed"]:
            return SearchSummary("Every trial failed", "There is no answer: the reasons stand below.", [])
        return SearchSummary("No result yet", "No trial that could be the answer has reported an accuracy.", [])
    accuracy = best.val_accuracy or 0.0
    controls = experiment.controls()
    compared = [ComparedTrial("best found", best, None)] + [
        ComparedTrial(title, controls[name], accuracy - (controls[name].val_accuracy or 0.0))
        for name, title in CONTROL_TITLES.items()
        if name in controls and controls[name].number != best.number
    ]
    return SearchSummary(*_verdict(experiment, best, compared[1:]), compared)


def standard_error(experiment: Experiment, accuracy: float) -> float | None:
    """Returns the standard error of a validation accuracy; None where the number of images was not recorded.

    Adds two right and two wrong answers (Agresti and Coull 1998), so that an accuracy of 1 has an error, too.
    """
    images = experiment.provenance.dataset.validation_images
    if not images:
        return None
    adjusted = (accuracy * images + 2) / (images + 4)
    return sqrt(adjusted * (1 - adjusted) / (images + 4))


def max_lead_by_chance(experiment: Experiment, accuracy: float, other: float) -> float | None:
    """Returns a 95 % upper bound on the lead that the best of equally good trials shows by chance, if known.

    Bonferroni over the finished trials, each against one other, with independent standard errors. That
    trials share their validation images makes the true bound smaller, other seeds make it larger.
    """
    error, other_error = standard_error(experiment, accuracy), standard_error(experiment, other)
    if error is None or other_error is None:
        return None
    tail = 0.05 / max(1, experiment.counts()["finished"])
    return NormalDist().inv_cdf(1 - tail) * hypot(error, other_error)


def _verdict(experiment: Experiment, best: Trial, controls: list[ComparedTrial]) -> tuple[str, str]:
    if best.state != "finished":
        return (
            "No trial has run to the end yet",
            "The best is by latest reports, at different epochs: not yet an answer.",
        )
    if best.control:
        return (
            f"The {CONTROL_TITLES.get(best.control, best.control)} is the best of this search",
            "Nothing that was proposed beats it: the search found no gain.",
        )
    if not controls:
        return (
            "A best configuration, with nothing to compare it with",
            "No control ran to the end, so whether it is a gain is unknown.",
        )
    nearest = min(controls, key=lambda control: control.behind or 0.0)
    return _gain(experiment, best.val_accuracy or 0.0, nearest)


def _gain(experiment: Experiment, accuracy: float, nearest: ComparedTrial) -> tuple[str, str]:
    """Compares the best with the control that comes nearest to it."""
    lead = nearest.behind or 0.0
    if lead <= 0:
        return (
            "This search found no gain",
            f"The best configuration is not better than the {nearest.title} ({format_points(lead)} points).",
        )
    ahead = f"{format_points(lead)[1:]} points ahead of the {nearest.title}"
    by_chance = max_lead_by_chance(experiment, accuracy, accuracy - lead)
    if by_chance is None:
        return f"A lead: {ahead}", "How many images that was measured on is not recorded: it may be a gain or a tie."
    images = f"the best of {experiment.counts()['finished']} finished trials on this many validation images"
    if lead < by_chance:
        return (
            f"A small lead: {ahead}",
            f"Luck alone can put {images} up to {format_points(by_chance)[1:]} points ahead. "
            "It may be a gain or a tie: training both on fresh seeds tells.",
        )
    return f"A gain: {ahead}", f"That is more than luck would give {images}."


def counts_in_words(experiment: Experiment) -> str:
    """Counts the trials in words: `2 running, 8 finished of 20`."""
    counts = experiment.counts()
    shown = [f"{count} {state.replace('_', ' ')}" for state, count in counts.items() if count]
    return ", ".join(shown) + f" of {experiment.num_samples}"
