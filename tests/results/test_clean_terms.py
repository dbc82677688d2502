"""Tests what a search shows of its accuracies on clean labels, and when it warns that noisy labels may mislead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.results.test_label_quality import PAIR_FLIP, draw, symmetric
from trainables.settings import LabelsKind
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Finished, NoiseEstimated, Proposed, Report
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.provenance import DatasetFacts, Provenance
from tune_mentormix.results.clean_terms import MISLEADING, clean_estimate, noise_warning
from tune_mentormix.results.label_quality import estimate_noise
from tune_mentormix.results.summary import search_status, summarize

IMAGES = 4000
LABELLED_BY_PEOPLE: dict[str, Any] = {"dataset": "cifar10"}


def search_of(
    transition: NDArray[np.float64],
    settings: dict[str, Any],
    clean_accuracies: list[float],
    kind: LabelsKind = "noisy",
) -> tuple[Experiment, list[float]]:
    """A search whose trials have these accuracies on true labels, and those they have; trial 0 is plain training."""
    facts = DatasetFacts(validation_images=IMAGES, classes=len(transition), validation_labels=kind)
    experiment = Experiment(Path("nowhere"), SearchSettings(**settings), Provenance(dataset=facts))
    true_accuracies = []
    for number, asked in enumerate(clean_accuracies):
        labels, probabilities, true_accuracy = draw(transition, IMAGES, asked)
        accuracy = float((probabilities.argmax(axis=1) == labels).mean())
        noise = estimate_noise(labels, probabilities)
        assert noise is not None
        control = None if number else "plain"
        experiment.apply(Proposed(trial=number, control=control, config={"epochs": 1, "mixup_alpha": 1.0}))
        experiment.apply(Report(trial=number, epoch=1, val_accuracy=accuracy))
        experiment.apply(NoiseEstimated(trial=number, epoch=1, noise=noise))
        experiment.apply(Finished(trial=number))
        true_accuracies.append(true_accuracy)
    return experiment, true_accuracies


def test_noise_that_this_project_added_is_converted_with_its_rate() -> None:
    settings = {"noise": 0.4, "noise_kind": "symmetric_exclusive"}
    experiment, true_accuracies = search_of(symmetric(0.4), settings, [0.6, 0.9])
    for number, true_accuracy in enumerate(true_accuracies):
        estimate = clean_estimate(experiment, experiment.trials[number])
        assert estimate is not None
        assert estimate.low < true_accuracy < estimate.high
        assert "40 % of the labels are wrong (as set)" in estimate.assumption


def test_unknown_symmetric_noise_is_converted_with_the_rate_that_the_best_network_sees() -> None:
    experiment, true_accuracies = search_of(symmetric(0.4), LABELLED_BY_PEOPLE, [0.6, 0.97])
    estimate = clean_estimate(experiment, experiment.trials[0])
    assert estimate is not None
    assert estimate.accuracy == pytest.approx(true_accuracies[0], abs=0.05)
    assert "(estimated from trial 1)" in estimate.assumption
    assert noise_warning(experiment) is None


def test_noise_that_falls_on_few_classes_is_not_converted_and_warned_of() -> None:
    experiment, _ = search_of(PAIR_FLIP, LABELLED_BY_PEOPLE, [0.6, 0.97])
    assert [clean_estimate(experiment, trial) for trial in experiment.trials.values()] == [None, None]
    assert MISLEADING in summarize(experiment).explanation


def test_clean_labels_need_no_estimate_and_no_warning() -> None:
    experiment, _ = search_of(PAIR_FLIP, LABELLED_BY_PEOPLE, [0.6, 0.9], kind="clean")
    assert clean_estimate(experiment, experiment.trials[0]) is None
    assert MISLEADING not in summarize(experiment).explanation


def test_the_status_has_the_best_and_the_controls_on_clean_labels() -> None:
    experiment, _ = search_of(symmetric(0.4), LABELLED_BY_PEOPLE, [0.6, 0.9])
    status = search_status(experiment)
    assert status.best is not None
    assert status.best.clean_estimate == clean_estimate(experiment, experiment.trials[1])
    assert status.clean_estimates == {"plain": clean_estimate(experiment, experiment.trials[0])}
    assert status.model_dump()["best"]["clean_estimate"].keys() == {"accuracy", "low", "high", "assumption"}
