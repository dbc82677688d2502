"""What the verified labels of a search say: which candidate they choose, how accurate it is, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trainables.verify_csv import CANNOT_TELL
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import CleanEstimate
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.verified_labels import (
    VERIFICATION_FOLDER,
    WITHDRAWN,
    VerifiedLabel,
    latest_answers,
    read_answers,
)
from tune_mentormix.storage.listing import list_folder

if TYPE_CHECKING:  # NumPy is imported where there are verified labels
    from tune_mentormix.results.statistics import ConfidenceInterval
    from tune_mentormix.results.verification import Sample
    from tune_mentormix.results.verification_pool import PoolCandidate, VerificationPool

MIN_ANSWERS = 20  # before a decision stands
MIN_UNCHANGED = 10  # answers, and half of all, that left the choice as it was
MAX_REPLAYS = 40  # choices after fewer answers that are computed again, to see since when it is this one
REPLAY_CELLS = 400_000_000  # that those may take together, about two seconds


@dataclass(frozen=True)
class Verification:
    """The verified labels of a search, and what follows from them."""

    pool: VerificationPool
    answers: list[VerifiedLabel]  # the latest of each image of the pool, in the order of the draw
    differing: int  # images that people answered differently

    @property
    def count(self) -> int:
        """How many right labels are known."""
        return len(self.sample.positions)

    @property
    def latest(self) -> str:
        """The day of the latest answer."""
        return max((answer.time for answer in self.answers), default="")[:10]

    @cached_property
    def sample(self) -> Sample:
        """The verified images as the estimates take them."""
        return self._sample_of(len(self.answers))

    @cached_property
    def ranking(self) -> list[int]:
        """The positions of the candidates, by the accuracy that is expected of them on right labels."""
        return self._ranking(len(self.answers))

    @property
    def chosen(self) -> int:
        """The position of the candidate that is chosen."""
        return self.ranking[0]

    @property
    def winner(self) -> PoolCandidate:
        """The candidate that is chosen."""
        return self.pool.candidates[self.chosen]

    @cached_property
    def noisy_best(self) -> int:
        """The candidate that noisy validation labels alone would choose."""
        return int(self.pool.evidence.noisy_accuracies.argmax())

    @cached_property
    def unchanged_since(self) -> int:
        """After how many answers, in the order of the draw, the choice had become what it is."""
        total = len(self.answers)
        cells = self.pool.evidence.probabilities.size
        step = max(1, -(-total // max(4, min(MAX_REPLAYS, REPLAY_CELLS // cells))))
        earliest = total
        while earliest > 0 and self._ranking(max(0, earliest - step))[0] == self.chosen:
            earliest = max(0, earliest - step)
        return earliest

    @property
    def stands(self) -> bool:
        """Whether the latest half of the answers, at least ten, left the choice as it was."""
        total = len(self.answers)
        return total >= MIN_ANSWERS and total - self.unchanged_since >= max(MIN_UNCHANGED, total / 2)

    @cached_property
    def estimates(self) -> list[CleanEstimate | None]:
        """The unbiased estimate of each candidate's accuracy on right labels."""
        return [self._estimate(interval) for interval in self._intervals]

    def lead(self, other: int) -> ConfidenceInterval | None:
        """Returns how much more accurate on right labels the chosen one is than another; unbiased."""
        from tune_mentormix.results.verification import mean_interval

        return mean_interval(self._accuracies[self.chosen] - self._accuracies[other])

    def estimate_of(self, trial: int) -> CleanEstimate | None:
        """Returns the estimate of a trial of the search; None if it is no candidate."""
        found = (n for n, candidate in enumerate(self.pool.candidates) if candidate.trial == trial)
        return next((self.estimates[n] for n in found), None)

    @property
    def controls(self) -> list[int]:
        """The controls among the candidates, but for the chosen one."""
        return [n for n, candidate in enumerate(self.pool.candidates) if candidate.control and n != self.chosen]

    @cached_property
    def _accuracies(self) -> Any:
        return self.sample.accuracies(self.pool.evidence)

    @cached_property
    def _intervals(self) -> list[ConfidenceInterval | None]:
        from tune_mentormix.results.verification import mean_interval

        return [mean_interval(each) for each in self._accuracies]

    def _estimate(self, interval: ConfidenceInterval | None) -> CleanEstimate | None:
        if interval is None or interval.low is None or interval.high is None:
            return None
        ends = (round(min(1.0, max(0.0, end)), 6) for end in (interval.mean, interval.low, interval.high))
        accuracy, low, high = ends
        assumption = f"{self.count} verified labels are right"
        return CleanEstimate(accuracy=accuracy, low=low, high=high, assumption=assumption)

    def _ranking(self, answers: int) -> list[int]:
        """Returns the ranking after so many answers."""
        evidence, sample = self.pool.evidence, self._sample_of(answers)
        return evidence.ranking(evidence.beliefs(sample.positions, sample.right))

    def _sample_of(self, answers: int) -> Sample:
        import numpy as np

        from tune_mentormix.results.verification import Sample

        place = {image: position for position, image in enumerate(self.pool.images)}
        label = {name: number for number, name in enumerate(self.pool.class_names)}
        drawn: dict[int, int] = {}
        known: dict[int, int] = {}
        unclear = []
        for answer in self.answers[:answers]:
            position = place[answer.image]
            if answer.answer == CANNOT_TELL:
                unclear.append(position)
            elif self.pool.sizes[position] > 0:
                drawn[position] = label[answer.answer]
            else:
                known[position] = label[answer.answer]
        return Sample(
            drawn=np.array([*drawn], np.int64),
            drawn_right=np.array([*drawn.values()], np.int64),
            known=np.array([*known], np.int64),
            known_right=np.array([*known.values()], np.int64),
            sizes=self.pool.sizes,
            unclear=np.array(unclear, np.int64),
        )


def read_verification(experiment: Experiment) -> Verification | None:
    """Reads the verified labels of a search; None without a pool of candidates that they were asked for.

    Raises RequestError if what was kept is damaged or cannot be read.
    """
    if not any(path.name.startswith("pool-") for path in list_folder(experiment.path / VERIFICATION_FOLDER)):
        return None
    import numpy as np

    from tune_mentormix.results.verification_pool import newest_pool  # imports NumPy

    pool = newest_pool(experiment.path)
    if pool is None:
        return None
    given = read_answers(experiment.path)
    latest = latest_answers(given)
    before = [pool.images[position] for position in np.flatnonzero(pool.sizes == 0)]
    asked = [*before, *(pool.images[position] for position in pool.order)]
    known = {*pool.class_names, CANNOT_TELL}
    answers = [latest[image] for image in asked if image in latest and latest[image].answer in known]
    by_person: dict[str, dict[str, str]] = {}
    for answer in given:
        by_person.setdefault(answer.image, {})[answer.by] = answer.answer
    differing = sum(len({*answers.values()} - {WITHDRAWN}) > 1 for answers in by_person.values())
    return Verification(pool, answers, differing)


def verified_choice(experiment: Experiment, with_mentor: bool = False) -> tuple[Trial, Verification] | None:
    """Returns the trial that the verified labels choose, and what they say; None without any for these candidates.

    `with_mentor` leaves out candidates without MentorMix, as are those that the search has no trial of.
    """
    if experiment.metric != "val_accuracy":
        return None  # verified labels estimate accuracies
    verification = read_verification(experiment)
    if verification is None or not verification.count or is_outdated(experiment, verification):
        return None
    numbers = (verification.pool.candidates[position].trial for position in verification.ranking)
    trials = [experiment.trials[number] for number in numbers if number is not None]
    trial = next((trial for trial in trials if trial.uses_mentor or not with_mentor), None)
    return None if trial is None else (trial, verification)


def chosen_trial(experiment: Experiment, with_mentor: bool = False) -> Trial | None:
    """Returns the trial that verified labels choose, and without any the best on the validation labels."""
    choice = verified_choice(experiment, with_mentor)
    return choice[0] if choice else experiment.best(with_mentor)


def is_outdated(experiment: Experiment, verification: Verification) -> bool:
    """Whether the search was confirmed since: the labels are then to be read for the candidates of that."""
    if verification.pool.is_confirmed:
        return False
    from tune_mentormix.results.confirmation import read_confirmation  # imports NumPy

    confirmation = read_confirmation(experiment)
    return confirmation is not None and confirmation.winner() is not None


def about_verification(verification: Verification) -> list[str]:
    """Describes what the answers say, in sentences."""
    pool, total = verification.pool, len(verification.answers)
    unclear = total - verification.count
    if not verification.count:
        return ["No right label is known yet."]
    skipped = f", besides {unclear} that nobody can tell" if unclear else ""
    estimate = verification.estimates[verification.chosen]
    accuracy = f", right in {estimate} of all images" if estimate else ""
    sentences = [
        f"{verification.count} verified labels{skipped} choose {verification.winner.in_a_sentence}{accuracy}."
    ]
    if verification.noisy_best == verification.chosen:
        sentences.append("It is the best on noisy labels, too.")
    others = [] if verification.noisy_best == verification.chosen else [verification.noisy_best]
    for other in [*others, *(control for control in verification.controls if control not in others)]:
        title = pool.candidates[other].in_a_sentence
        name = f"{title}, the best on noisy labels" if other == verification.noisy_best else title
        sentences += _lead(verification.lead(other), name)
    if verification.count < MIN_ANSWERS:
        sentences.append(f"With fewer than {MIN_ANSWERS} verified labels such intervals are often too narrow.")
    since = f"after {verification.unchanged_since} of {total} answers"
    if verification.stands:
        sentences.append(f"The decision stands: it is the same {since} as after all.")
    else:
        sentences.append(f"More answers may change the decision: it is the same {since} as after all, no longer.")
    if verification.differing:
        sentences.append(f"People answered {verification.differing} images differently: the latest answer counts.")
    return sentences


def _lead(lead: ConfidenceInterval | None, other: str) -> list[str]:
    if lead is None or lead.low is None or lead.high is None:
        return []
    interval = f"95 % interval {100 * lead.low:.1f} … {100 * lead.high:.1f}"
    return [f"On right labels it is {100 * lead.mean:+.1f} points from {other} ({interval}).".replace("-", "−")]


def verification_record(experiment: Experiment, verification: Verification | None) -> dict[str, Any]:
    """Returns what `verify --json` shows."""
    if verification is None:
        return {"name": experiment.name, "answers": 0, "candidates": []}
    noisy = verification.pool.evidence.noisy_accuracies
    return {
        "name": experiment.name,
        "answers": len(verification.answers),
        "verified": verification.count,
        "chosen": verification.winner.title if verification.count else None,
        "trial": verification.winner.trial if verification.count else None,
        "unchanged_since": verification.unchanged_since,
        "stands": verification.stands,
        "candidates": [
            {
                "title": verification.pool.candidates[position].title,
                "trial": verification.pool.candidates[position].trial,
                "on_right_labels": estimate.model_dump() if (estimate := verification.estimates[position]) else None,
                "on_noisy_labels": round(float(noisy[position]), 6),
            }
            for position in verification.ranking
        ],
    }
