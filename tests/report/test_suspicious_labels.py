"""The section of suspicious labels: from a finished search's own files, with every name escaped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.test_page import HOSTILE, Page
from tests.support.searches import copy_of
from tests.support.simulated_search import simulate_search
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.formatting import templates_of
from tune_mentormix.report.suspicious_labels import (
    MAX_SHOWN,
    SuspiciousImage,
    SuspiciousLabels,
    suspicious_labels,
)
from tune_mentormix.results.suspicious_labels import LabelTable, held_out_predictions, images_of


def section_of(experiment: Experiment) -> SuspiciousLabels:
    """The section, which must be there."""
    section = suspicious_labels(experiment)
    assert isinstance(section, SuspiciousLabels)
    return section


def rendered(experiment: Experiment, section: object) -> str:
    """The HTML of the section."""

    class Report:
        suspicious_labels = section

    template = templates_of("tune_mentormix.report").get_template("labels.html")
    return template.render(report=Report(), experiment=experiment)


@pytest.mark.slow
def test_the_most_suspicious_held_out_images_are_shown_by_class_with_both_labels(
    finished_search: Experiment,
) -> None:
    section, images = section_of(finished_search), images_of(finished_search)
    table = LabelTable.of(images, held_out_predictions(finished_search, images))

    assert (section.scored, section.images) == (60, 300)
    assert table.out_of_fold.all()
    shown = {image.name: (given, image) for given, group in section.shown.items() for image in group}
    assert len(shown) == min(MAX_SHOWN, table.disagreements()) == section.disagreements
    for name, given, suggested, _, _, rank, _ in table.rows(len(shown)):
        label, image = shown[name]
        assert (label, image.suggested, image.rank) == (given, suggested, rank)
        assert given != suggested
    assert list(section.shown) == sorted(section.shown)
    assert sum(count for _, _, count in section.confused) <= section.disagreements
    page = Page(rendered(finished_search, section))
    assert len(page.loads) == len(shown)
    assert all(uri.startswith("data:image/") for uri in page.loads)


@pytest.mark.slow
def test_without_the_data_the_section_tells_so_and_the_report_is_written(
    finished_search: Experiment, tmp_path: Path
) -> None:
    moved = finished_search.settings.model_copy(update={"dataset": "arrays", "data_dir": tmp_path / "gone.npz"})
    experiment = replace(finished_search, settings=moved)

    reason = suspicious_labels(experiment)

    assert isinstance(reason, str)
    assert "gone.npz" in reason
    assert "labels done --data-dir PATH" in rendered(experiment, reason)


@pytest.mark.slow
def test_a_report_downloads_nothing(finished_search: Experiment, tmp_path: Path) -> None:
    settings = finished_search.settings.model_copy(update={"dataset": "cifar10", "cache_dir": tmp_path / "empty"})

    reason = suspicious_labels(replace(finished_search, settings=settings))

    assert reason == f"The images cannot be read here: cifar10 is not in {tmp_path / 'empty'}"
    assert not (tmp_path / "empty").exists()


@pytest.mark.slow
def test_a_search_whose_checkpoints_are_gone_has_no_images(finished_search: Experiment, tmp_path: Path) -> None:
    storage = copy_of(finished_search, tmp_path)
    for file in storage.rglob("validation_probabilities.npy"):
        file.unlink()

    assert suspicious_labels(read_experiment(storage, "done")) == "No probabilities of held-out images are left"


def test_before_any_trial_ended_there_is_no_section(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "birds", 2, epochs=4)
    for trial in experiment.trials.values():
        trial.state = "running"

    assert suspicious_labels(experiment) is None


def test_names_are_escaped(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "birds", 2, epochs=4)
    image = SuspiciousImage(HOSTILE, HOSTILE, 0.9, 1, "data:image/png;base64,AAAA")
    section = SuspiciousLabels(10, 10, 1, 0.1, HOSTILE, {HOSTILE: [image]}, [(HOSTILE, HOSTILE, 1)])

    page = Page(rendered(experiment, section))

    assert "script" not in page.tags
    assert page.alternatives == [HOSTILE]
    assert page.text.count(HOSTILE) == 5
    assert np.array_equal(page.loads, [image.src])
