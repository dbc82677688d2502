"""The section of suspicious labels: from a finished search's own files, with every name escaped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.test_page import HOSTILE, Page
from tests.support.searches import copy_of
from tests.support.simulated_search import simulate_search
from trainables.data import load_named_dataset
from trainables.settings import DataSettings
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.formatting import templates_of
from tune_mentormix.report.suspicious_labels import (
    MAX_ON_PAGE,
    MAX_SHOWN,
    SuspiciousImage,
    SuspiciousLabels,
    suspicious_labels,
    write_labels_page,
)
from tune_mentormix.results.suspicious_labels import (
    LabelTable,
    Predictions,
    TrainingImages,
    held_out_predictions,
    images_of,
)


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

    experiment = read_experiment(storage, "done")
    assert suspicious_labels(experiment) == "No probabilities of held-out images are left"

    facts = experiment.provenance.dataset.model_copy(update={"validation_labels": "clean"})
    on_clean_labels = replace(experiment, provenance=experiment.provenance.model_copy(update={"dataset": facts}))
    reason = suspicious_labels(on_clean_labels)
    assert reason == "The validation labels are clean, so no image was held out whose label may be wrong"


def test_before_any_trial_ended_there_is_no_section(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "birds", 2, epochs=4)
    for trial in experiment.trials.values():
        trial.state = "running"

    assert suspicious_labels(experiment) is None


def test_names_are_escaped(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "birds", 2, epochs=4)
    image = SuspiciousImage(HOSTILE, HOSTILE, HOSTILE, 0.9, 1, True, "data:image/png;base64,AAAA")
    section = SuspiciousLabels(10, 10, 1, 0.1, HOSTILE, {HOSTILE: [image]}, [(HOSTILE, HOSTILE, 1)])

    page = Page(rendered(experiment, section))

    assert "script" not in page.tags
    assert page.alternatives == [HOSTILE]
    assert page.text.count(HOSTILE) == 5
    assert np.array_equal(page.loads, [image.src])


def disagreeing_table(folder: Path, images: int, seldom: int) -> LabelTable:
    """Labels that networks all disagree with: of two classes with odd names, the second with `seldom` images.

    Those are the least suspicious, and every other image was trained on.
    """
    labels = np.array([0] * (images - seldom) + [1] * seldom)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 4, 4, 3)).astype(np.uint8)
    path = folder / "images.npz"
    np.savez(path, images=pixels, labels=labels, class_names=np.array([HOSTILE, "=1+1, é"]))
    settings = DataSettings(dataset="arrays", data_dir=path, validation_fraction=0.5)
    training = TrainingImages.of(*load_named_dataset(settings), is_validation_separate=False)
    suggested = np.where(training.given == 0, 0.9, 0.6).astype(np.float32)
    probabilities = np.zeros((images, 2), np.float32)
    probabilities[np.arange(images), 1 - training.given] = suggested
    probabilities[np.arange(images), training.given] = 1 - suggested
    everywhere = np.ones(images, np.bool_)
    return LabelTable.of(
        training, Predictions(probabilities, everywhere, np.arange(images) % 2 == 0, f"networks {HOSTILE}")
    )


def test_the_page_shows_the_most_suspicious_images_and_some_of_each_class(tmp_path: Path) -> None:
    table = disagreeing_table(tmp_path, MAX_ON_PAGE + 300, seldom=250)

    write_labels_page(table, "birds", tmp_path / "out" / "labels.html")

    html = (tmp_path / "out" / "labels.html").read_text(encoding="utf-8")
    classes = [int(number) for number in re.findall(r'<li data-given="(\d)"', html)]
    assert classes == [0] * MAX_ON_PAGE + [1] * (MAX_ON_PAGE // 2)
    ranks = [int(rank) for rank in re.findall(r"<small>0\.\d+ · rank (\d+)", html)]
    assert ranks[:MAX_ON_PAGE] == list(range(1, MAX_ON_PAGE + 1))
    assert html.count("· trained on") == sum(not table.out_of_fold[rank - 1] for rank in ranks)
    assert f"all classes ({len(classes)})" in html
    assert f"=1+1, é ({MAX_ON_PAGE // 2})" in html


def test_the_page_escapes_every_name_loads_nothing_and_links_to_the_table(tmp_path: Path) -> None:
    table = disagreeing_table(tmp_path, 12, seldom=4)

    write_labels_page(table, HOSTILE, tmp_path / "labels.html", tmp_path / "all labels" / "labels #1.csv")

    page = Page((tmp_path / "labels.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.loads.count("all%20labels/labels%20%231.csv") == 1
    assert all(uri.startswith("data:image/") for uri in page.loads if not uri.startswith("all%20labels"))
    assert page.text.count(HOSTILE) == 3 + 2 + 1 + 12  # title and heading, source; two pairs; the filter; the images
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npz", "labels.html"]
