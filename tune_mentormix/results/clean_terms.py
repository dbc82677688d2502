"""The accuracies of a search in clean terms, and what is known of its label noise, known or estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from trainables.settings import DataSettings
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.schemas import CleanEstimate, NoiseEstimate
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.results.label_quality import (
    clean_accuracy_by_rate,
    estimate_noise,
    is_told_from_errors,
    pool_noise,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AS_SET = "as set"  # where the rate of the label noise comes from
FLATTERY = "This flatters networks that memorise, and is too high where wrong labels depend on the image"
MISLEADING = (
    "The wrong labels fall mostly on few classes, and networks err towards the same ones. So accuracies on clean "
    "labels are not estimated, and the ranking by noisy validation labels may mislead."
)

UNTOLD = (
    "The label noise cannot be told from the errors that even the best network makes where it is sure, or it depends "
    "on the image. So accuracies on clean labels are not estimated, and the ranking by noisy validation labels may "
    "mislead."
)


@dataclass(frozen=True)
class NoiseReference:
    """The estimate of the noise that all trials are converted with: that of the most accurate network."""

    trial: Trial
    noise: NoiseEstimate

    def is_told_from_errors(self, classes: int) -> bool:
        """Whether the network is good enough to tell the noise from its own errors."""
        return is_told_from_errors(self.noise, self.trial.val_accuracy or 0.0, classes)


def noise_reference(trials: list[Trial]) -> NoiseReference | None:
    """Returns the estimate of the trial with the highest accuracy at its end.

    Whatever the network gets wrong counts as label noise, so the best network has the best estimate. For its own
    accuracy it is too kind all the same: it takes its confident mistakes for wrong labels.
    """
    estimated = [(trial, trial.noise) for trial in trials if trial.noise and trial.val_accuracy is not None]
    if not estimated:
        return None
    return NoiseReference(*max(estimated, key=lambda pair: (pair[0].val_accuracy or 0.0, -pair[0].number)))


def known_symmetric_rate(settings: DataSettings, classes: int) -> float | None:
    """Returns the noise rate where this project added symmetric noise itself; None for all other labels."""
    if not settings.noise or settings.noise_kind not in ("symmetric_exclusive", "symmetric_inclusive"):
        return None
    return settings.noise * ((classes - 1) / classes if settings.noise_kind == "symmetric_inclusive" else 1)


def clean_estimate(experiment: Experiment, trial: Trial) -> CleanEstimate | None:
    """Returns what a trial's accuracy at its latest epoch would be on clean labels.

    None if the validation labels are clean, nothing is known of the noise, it leaves too little signal, or networks
    cannot tell it from their errors: where wrong labels fall mostly on few classes, so do errors.
    """
    return clean_estimates(experiment, [trial])[0]


def clean_estimates(experiment: Experiment, trials: Sequence[Trial]) -> list[CleanEstimate | None]:
    """Returns what the accuracies of trials would be on clean labels, as `clean_estimate` does for one."""
    reference = noise_reference(list(experiment.trials.values()))
    return [_clean_estimate(experiment, trial, reference) for trial in trials]


def _clean_estimate(experiment: Experiment, trial: Trial, reference: NoiseReference | None) -> CleanEstimate | None:
    facts = experiment.provenance.dataset
    accuracy, images, classes = trial.val_accuracy, facts.validation_images, facts.classes
    if accuracy is None or experiment.labels_kind == "clean" or not images or not classes:
        return None
    if (rate := known_symmetric_rate(experiment.settings, classes)) is not None:
        return clean_accuracy_by_rate(accuracy, images, classes, rate, None, AS_SET)
    if reference is None or not (reference.noise.is_symmetric and reference.is_told_from_errors(classes)):
        return None
    rate, source = reference.noise.rate, f"estimated from trial {reference.trial.number}"
    return clean_accuracy_by_rate(accuracy, images, classes, rate, reference.noise.rate_images, source)


def clean_estimate_over_runs(
    experiment: Experiment, runs: Sequence[Trial], reference: Sequence[Trial], folds: int
) -> CleanEstimate | None:
    """Returns what the mean accuracy of a candidate's runs would be on clean labels.

    `reference` are the runs of the most accurate candidate, whose estimates of the noise are pooled. With `folds`
    above 1 the runs are on different images. None as for a single trial.
    """
    facts, accuracies = (
        experiment.provenance.dataset,
        [run.val_accuracy for run in runs if run.val_accuracy is not None],
    )
    if not accuracies or experiment.labels_kind == "clean" or not facts.validation_images or not facts.classes:
        return None
    accuracy, images = fmean(accuracies), facts.validation_images * min(len(accuracies), folds)
    if (rate := known_symmetric_rate(experiment.settings, facts.classes)) is not None:
        return clean_accuracy_by_rate(accuracy, images, facts.classes, rate, None, AS_SET)
    estimated = [(run.noise, run.val_accuracy) for run in reference if run.noise and run.val_accuracy is not None]
    noise = pool_noise([noise for noise, _ in estimated])
    if noise is None or not noise.is_symmetric:
        return None
    if not is_told_from_errors(noise, fmean(accuracy for _, accuracy in estimated), facts.classes):
        return None
    source = f"estimated from {len(estimated)} runs"
    return clean_accuracy_by_rate(accuracy, images, facts.classes, noise.rate, noise.rate_images, source)


def clean_estimate_of_predictions(
    data: DataSettings, labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> CleanEstimate | None:
    """Returns what the accuracy of predictions [M, K] on noisy labels [M] would be on clean ones.

    The network was not trained on these images. None as for a trial.
    """
    images, classes = probabilities.shape
    if not images:
        return None
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    if (rate := known_symmetric_rate(data, classes)) is not None:
        return clean_accuracy_by_rate(accuracy, images, classes, rate, None, AS_SET)
    noise = estimate_noise(labels, probabilities)
    if noise is None or not (noise.is_symmetric and is_told_from_errors(noise, accuracy, classes)):
        return None
    source = "estimated from these predictions"
    return clean_accuracy_by_rate(accuracy, images, classes, noise.rate, noise.rate_images, source)


def noise_warning(experiment: Experiment) -> str | None:
    """Warns where the noise of the validation labels does not look symmetric: they may rank trials wrongly."""
    facts = experiment.provenance.dataset
    if experiment.labels_kind == "clean" or known_symmetric_rate(experiment.settings, facts.classes or 2) is not None:
        return None
    reference = noise_reference(list(experiment.trials.values()))
    if reference is None:
        return None
    to_do = f"A few labels that you verify decide: verify {experiment.name} (docs/verify.md)."
    if not reference.is_told_from_errors(facts.classes or 2):
        return f"{UNTOLD} {to_do}"
    return None if reference.noise.is_symmetric else f"{MISLEADING} {to_do}"


def explain_clean_terms(estimates: list[CleanEstimate | None]) -> str | None:
    """Returns the sentence that stands below accuracies in clean terms: what they assume; None if there are none."""
    shown = next((estimate for estimate in estimates if estimate), None)
    if shown is None:
        return None
    return f"On clean labels: estimated with a 95 % interval, assuming that {shown.assumption}. {FLATTERY}."
