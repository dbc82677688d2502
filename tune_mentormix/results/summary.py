"""Summarizes a search in plain words: the best trial beside the controls, and whether its lead is a gain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, sqrt
from statistics import NormalDist

from tune_mentormix.config.controls import published_row
from tune_mentormix.errors import SearchFailedError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import BestTrial, CleanEstimate, SearchStatus, Verdict
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.formatting import format_accuracy, format_points
from tune_mentormix.results.clean_terms import clean_estimate, explain_clean_terms, noise_warning
from tune_mentormix.results.statistics import max_leads_by_chance, paired_standard_error, turning_point
from tune_mentormix.results.verification_summary import Verification, about_verification, verified_choice

CONTROL_TITLES = {"published": "published setting", "mixup": "plain mixup", "plain": "plain training"}


def control_title(control: Trial) -> str:
    """Returns the name of a control in words; of the published setting, for which noise it was published."""
    title = CONTROL_TITLES.get(str(control.control), str(control.control))
    row = published_row(control.config) if control.control == "published" else None
    return title if row is None else f"{title} for {100 * row:.0f} % noise"


@dataclass(frozen=True)
class ComparedTrial:
    """The best found, or another as one line of the comparison."""

    title: str
    trial: Trial
    behind: float | None  # the best's accuracy minus this one's; None for the best itself
    clean: CleanEstimate | None = None  # its accuracy on clean labels


@dataclass(frozen=True)
class Lead:
    """The lead of a trial over another, and how far chance could put it."""

    points: float  # a fraction of the images
    by_chance: float | None  # 95 % upper bound for trials that are equally good; None where nothing tells
    images: int | None  # on which both were compared, image by image; None if only their accuracies were

    @property
    def is_beyond_chance(self) -> bool:
        """Whether chance does not explain it."""
        return self.by_chance is not None and self.points > self.by_chance


@dataclass(frozen=True)
class SearchSummary:
    """The summary of a search."""

    headline: str
    explanation: str
    compared: list[ComparedTrial]  # the best first, then the controls that ran to the end
    lead: Lead | None = None  # of the best over the best other control
    is_gain: bool = False
    verified: int = 0  # verified labels that the choice of the best and the accuracies on clean labels rest on

    @property
    def clean_note(self) -> str | None:
        """The assumption of the accuracies on clean labels; None if there are none."""
        if self.verified:
            return (
                f"On clean labels: an unbiased estimate from {self.verified} verified labels, with a 95 % interval."
            )
        return explain_clean_terms([row.clean for row in self.compared])

    @property
    def noisy_note(self) -> str | None:
        """The accuracies on noisy labels, where trials are compared on verified ones; None otherwise."""
        noisy = {row.title: row.trial.noisy_val_accuracy for row in self.compared}
        if None in noisy.values() or not noisy:
            return None
        listed = ", ".join(f"{title} {format_accuracy(accuracy)}" for title, accuracy in noisy.items())
        return (
            f"On the noisy labels of the same validation images: {listed}. Trials are compared on the labels that "
            "people verified; images that were picked for that are harder than most."
        )

    def verdict(self) -> Verdict:
        """Returns what `status --json` shows."""
        points, by_chance = (self.lead.points, self.lead.by_chance) if self.lead else (None, None)
        return Verdict(headline=self.headline, is_gain=self.is_gain, lead=points, bound=by_chance)


def search_overview(experiment: Experiment) -> SearchStatus:
    """Returns the status with its accuracies on clean labels, without a verdict."""
    status, choice = experiment.status(), verified_choice(experiment)
    best, verification = choice or (experiment.best(), None)
    if best:
        clean = _clean(experiment, best, verification)
        status.best = BestTrial(
            trial_id=best.number,
            val_accuracy=best.val_accuracy,
            epoch=best.epoch,
            config=best.config,
            score=best.score,
            noisy_val_accuracy=best.noisy_val_accuracy,
            clean_estimate=clean,
        )
    controls = experiment.controls().items()
    status.clean_estimates = {name: _clean(experiment, control, verification) for name, control in controls}
    return status


def search_status(experiment: Experiment) -> SearchStatus:
    """Returns what `status --json` shows."""
    return search_overview(experiment).model_copy(update={"verdict": summarize(experiment).verdict()})


def summarize(experiment: Experiment) -> SearchSummary:
    """Summarizes what the search found; also one that is unfinished, or failed."""
    if choice := verified_choice(experiment):
        return _summarize_verified(experiment, *choice)
    best = experiment.best()
    if best is None:
        if experiment.counts()["failed"]:
            return SearchSummary("Every trial failed", "There is no answer: the reasons stand below.", [])
        return SearchSummary("No result yet", "No trial that could be the answer has reported an accuracy.", [])
    controls = {name: trial for name, trial in experiment.controls().items() if trial is not best}
    rows = [(control_title(controls[name]), controls[name]) for name in CONTROL_TITLES if name in controls]
    mentormix = experiment.best(with_mentor=True)
    if best.is_baseline and mentormix and not mentormix.control:
        rows.append(("best with MentorMix", mentormix))
    compared = [ComparedTrial("best found", best, None, clean_estimate(experiment, best))]
    compared += [
        ComparedTrial(title, trial, _accuracy(best) - _accuracy(trial), clean_estimate(experiment, trial))
        for title, trial in rows
    ]
    if experiment.metric != "val_accuracy":
        compared = [replace(row, behind=None) for row in compared]
        return SearchSummary(*_by_other_metric(experiment, best, compared), compared)
    if best.state != "finished":
        explanation = "The best is by latest reports, at different epochs: not yet an answer."
        return SearchSummary("No trial has run to the end yet", explanation, compared)
    nearest = max(controls.values(), key=_accuracy, default=None)
    lead = _lead(experiment, best, nearest, list(controls.values())) if nearest else None
    if best.control:
        headline, explanation = _control_is_best(experiment, best, mentormix)
    elif nearest is None or lead is None:
        headline = "A best configuration, with nothing to compare it with"
        explanation = "No control ran to the end, so whether it is a gain is unknown."
    else:
        headline, explanation = _gain(experiment, lead, _in_a_sentence(nearest))
    is_gain = not best.control and lead is not None and lead.is_beyond_chance
    warning = noise_warning(experiment)
    explanation = " ".join([explanation, *_memorising(experiment, best, is_gain), *([warning] if warning else [])])
    return SearchSummary(headline, explanation, compared, lead, is_gain)


def _by_other_metric(experiment: Experiment, best: Trial, compared: list[ComparedTrial]) -> tuple[str, str]:
    """Describes the best by a metric of which no bound on a lead by chance is known."""
    metric = experiment.settings.metric
    values = ", ".join(f"{row.title} {format_accuracy(row.trial.score)}" for row in compared)
    found = f"By {metric} on the {experiment.labels_kind} validation labels: {values}."
    if best.state != "finished":
        return "No trial has run to the end yet", f"{found} These are latest reports, at different epochs."
    who = f"trial {best.number}" if not best.control else _in_a_sentence(best)
    chance = "What chance explains of a lead is told for accuracy only; confirm trains on fresh seeds."
    return f"By {metric}, {who} is the best of this search", f"{found} {chance}"


def _summarize_verified(experiment: Experiment, best: Trial, verification: Verification) -> SearchSummary:
    """Summarizes a search whose best was chosen by verified labels."""
    noisy_best = experiment.best()
    rows = [("best on noisy labels", noisy_best)] if noisy_best and noisy_best is not best else []
    controls = {name: trial for name, trial in experiment.controls().items() if trial is not best}
    rows += [(control_title(controls[name]), controls[name]) for name in CONTROL_TITLES if name in controls]
    compared = [ComparedTrial("chosen by verified labels", best, None, _clean(experiment, best, verification))]
    compared += [
        ComparedTrial(title, row, _accuracy(best) - _accuracy(row), _clean(experiment, row, verification))
        for title, row in rows
    ]
    lead, is_gain, headline = None, False, f"Verified labels choose trial {best.number}"
    nearest = next((n for n in verification.ranking if n in verification.controls), None)
    interval = None if nearest is None else verification.lead(nearest)
    if nearest is not None and interval:
        lead = Lead(interval.mean, interval.half_width, None)
        is_gain = not best.control and interval.is_above_zero
        kind = "A gain" if is_gain else "A small lead" if lead.points > 0 else "No gain"
        ahead = f"{_points(lead.points)} {'ahead of' if lead.points > 0 else 'behind'}"
        headline = f"{kind} on verified labels: {ahead} {verification.pool.candidates[nearest].in_a_sentence}"
    if best.control:
        title = control_title(best)
        headline = f"{title[0].upper()}{title[1:]} is best on verified labels"
    explanation = " ".join([*about_verification(verification), *_memorising(experiment, best, is_gain)])
    return SearchSummary(headline, explanation, compared, lead, is_gain, verification.count)


def _clean(experiment: Experiment, trial: Trial, verification: Verification | None) -> CleanEstimate | None:
    """Returns a trial's accuracy on clean labels: by verified labels where there are any."""
    return verification.estimate_of(trial.number) if verification else clean_estimate(experiment, trial)


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

    For journals without the answers to single images. Bonferroni over the finished trials, each against one other,
    with independent standard errors. That trials share their validation images makes the true bound smaller.
    """
    error, other_error = standard_error(experiment, accuracy), standard_error(experiment, other)
    if error is None or other_error is None:
        return None
    tail = 0.05 / max(1, experiment.counts()["finished"])
    return NormalDist().inv_cdf(1 - tail) * hypot(error, other_error)


def paired_bound(pairs: list[tuple[Trial, Trial]]) -> tuple[float, int] | None:
    """Returns how far chance puts the first of the first pair ahead, among all pairs, and the number of images.

    None where the answers of a trial to single images are not known.
    """
    trials = {id(trial): trial for pair in pairs for trial in pair}  # two searches have the same numbers
    answers = {key: trial.correct_answers(trial.epoch) for key, trial in trials.items()}
    known = {key: right.view("int8") for key, right in answers.items() if right is not None}
    if len(known) < len(answers) or len({len(right) for right in known.values()}) > 1:
        return None
    import numpy as np

    differences = np.stack([known[id(first)] - known[id(second)] for first, second in pairs])
    return float(max_leads_by_chance(differences)[0]), differences.shape[1]


def turning_epoch(experiment: Experiment, trial: Trial) -> int | None:
    """Returns the epoch from which on a trial's smoothed accuracy falls by more than its error; None if it does not.

    The error is that of a paired difference between the last epoch and a rung, where the answers to single images
    are known.
    """
    curve = {epoch: accuracy for epoch, accuracy in trial.curve.items() if accuracy is not None}
    last = trial.correct_answers(trial.epoch)
    earlier = [trial.correct_answers(epoch) for epoch in trial.answers if epoch < trial.epoch]
    pairs = [(answers, last) for answers in earlier if answers is not None and last is not None]
    errors = [paired_standard_error(first.view("int8") - second.view("int8")) for first, second in pairs]
    unpaired = standard_error(experiment, max(curve.values(), default=0.0))
    if not errors and unpaired is None:
        return None
    index = turning_point(list(curve.values()), max(errors) if errors else sqrt(2) * (unpaired or 0.0))
    return None if index is None else list(curve)[index]


def has_failed(experiment: Experiment) -> bool:
    """Whether every trial failed: all that were proposed, or so many from the start that the search gave up."""
    failed = experiment.counts()["failed"]
    return bool(failed) and (experiment.ended == "all_failing" or failed == len(experiment.trials))


def check_search(experiment: Experiment) -> None:
    """Raises SearchFailedError, with the first reason, if every trial of a search failed."""
    if has_failed(experiment):
        first = next(trial for trial in experiment.trials.values() if trial.state == "failed")
        raise SearchFailedError(f"every trial failed; the first, trial {first.number}: {first.error}")


def state_in_words(experiment: Experiment) -> str:
    """Returns the state of a search for people: also `failed`, where nothing runs and every trial failed."""
    state = experiment.state()
    return "failed" if state != "running" and has_failed(experiment) else state


def counts_in_words(experiment: Experiment) -> str:
    """Counts the trials in words: `2 running, 8 finished of 20`."""
    counts = experiment.counts()
    shown = [f"{count} {state.replace('_', ' ')}" for state, count in counts.items() if count]
    return ", ".join(shown) + f" of {experiment.num_samples}"


def _lead(experiment: Experiment, best: Trial, other: Trial, controls: list[Trial]) -> Lead:
    """Compares the best with another trial, on the same images where the journal tells which were right.

    The bound holds for all finished trials against `other` together, and for `other` against the other controls:
    which of two controls is ahead was not known before either.
    """
    pairs = [(best, other)]
    pairs += [(trial, other) for trial in experiment.finished_trials() if trial is not best and trial is not other]
    pairs += [(other, control) for control in controls if control is not other]
    pairs += [(other, best)] if best.control else []
    accuracies = _accuracy(best), _accuracy(other)
    points = accuracies[0] - accuracies[1]
    paired = paired_bound(pairs)
    return Lead(points, *paired) if paired else Lead(points, max_lead_by_chance(experiment, *accuracies), None)


def _memorising(experiment: Experiment, best: Trial, is_gain: bool) -> list[str]:
    """Describes from which epoch on plain training memorises, or that it does not yet; nothing if it did not run.

    MentorMix pays from there on, so longer training is what to try where it does not pay yet.
    """
    plain = experiment.controls().get("plain")
    if plain is None:
        return []
    epoch = turning_epoch(experiment, plain)
    if epoch is None:
        found = f"The accuracy of plain training has not turned down within {plain.epoch} epochs"
        pays = "MentorMix pays where it does, because wrong labels are memorised"
    else:
        found = f"The accuracy of plain training turns down after epoch {epoch} of {plain.epoch}"
        pays = "from there it memorises wrong labels, and MentorMix can pay"
    if is_gain:
        return [f"{found}."]
    to_try = " Try longer training (--epochs)." if epoch is None or best.is_baseline else ""
    return [f"{found}: {pays}.{to_try}"]


def _gain(experiment: Experiment, lead: Lead, other: str) -> tuple[str, str]:
    """Describes the lead of a configuration over the control that comes nearest to it."""
    if lead.points <= 0:
        return (
            "This search found no gain",
            f"The best configuration is not better than {other} ({format_points(lead.points)} points).",
        )
    ahead = f"{_points(lead.points)} ahead of {other}"
    if lead.by_chance is None:
        return f"A lead: {ahead}", "How many images that was measured on is not recorded: it may be a gain or a tie."
    trials = experiment.counts()["finished"]
    if lead.images is None:
        images = f"the best of {trials} finished trials on this many validation images"
        beyond = f"That is more than luck would give {images}."
        within = f"Luck alone can put {images} up to {_points(lead.by_chance)} ahead."
    else:
        of = f"the best of {trials} finished trials, compared on the same {lead.images:,} validation images"
        beyond = (
            f"Chance alone puts {of}, at most {_points(lead.by_chance)} ahead. That is about these trained networks "
            "and these labels; confirm trains on fresh seeds."
        )
        within = f"Chance alone can put {of}, up to {_points(lead.by_chance)} ahead."
    if lead.is_beyond_chance:
        return f"A gain: {ahead}", beyond
    return f"A small lead: {ahead}", f"{within} It may be a gain or a tie: training both on fresh seeds tells."


def _control_is_best(experiment: Experiment, best: Trial, mentormix: Trial | None) -> tuple[str, str]:
    """Describes a search whose best is a control."""
    title = control_title(best)
    if not best.is_baseline:
        return (
            f"The {title} is the best of this search",
            "Nothing that was proposed beats it: the search found no gain.",
        )
    title = title[0].upper() + title[1:]
    if mentormix is None or mentormix.state != "finished":
        return f"{title} is best so far", "No trial with MentorMix has run to the end yet."
    accuracies = _accuracy(best), _accuracy(mentormix)
    points = accuracies[0] - accuracies[1]
    bound, _ = paired_bound([(best, mentormix)]) or (max_lead_by_chance(experiment, *accuracies), None)
    behind = f"The best with MentorMix (trial {mentormix.number}) is {_points(points)} behind"
    within = "" if bound is None or points > bound else ", which chance can explain"
    return f"{title} is best here: on this budget MentorMix does not help", f"{behind}{within}."


def _in_a_sentence(control: Trial) -> str:
    title = control_title(control)
    return f"the {title}" if control.control == "published" else title


def _accuracy(trial: Trial) -> float:
    return trial.val_accuracy or 0.0


def _points(difference: float) -> str:
    return f"{format_points(abs(difference))[1:]} points"
