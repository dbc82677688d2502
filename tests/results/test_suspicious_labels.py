"""Suspicious labels: ranked as scored, written so that every name reads back, and corrected for the next search."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import load_dataset, load_named_dataset
from trainables.settings import DataSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.results.suspicious_labels import (
    COLUMNS,
    LabelTable,
    Predictions,
    TrainingImages,
    load_training_images,
)

CLASSES = (" ant", "=bee()", 'cat, "big"\nor small')
FILES = ("1.png", " two  spaces .png", "=SUM(A1).png", "zeile\n2.png", "wagen\rücklauf.png", "日本.png")
SURE = 0.9


@pytest.fixture
def settings(tmp_path: Path) -> DataSettings:
    """A folder of 18 images in three classes, all with awkward names; each image has its own colour."""
    for label, folder in enumerate(CLASSES):
        (tmp_path / "images" / folder).mkdir(parents=True)
        for number, name in enumerate(FILES):
            Image.new("RGB", (4, 4), (80 * label, 10 * number, 0)).save(tmp_path / "images" / folder / name)
    data_dir, cache_dir = tmp_path / "images", tmp_path / "cache"
    return DataSettings(dataset="folder", data_dir=data_dir, cache_dir=cache_dir, validation_fraction=0.34)


@pytest.fixture
def images(settings: DataSettings) -> TrainingImages:
    return TrainingImages.of(*load_named_dataset(settings), is_validation_separate=False)


def predictions_of(images: TrainingImages, wrong: dict[str, int]) -> Predictions:
    """Networks that agree with every label but those of the images named in `wrong`, whose class they give."""
    predicted = [wrong.get(name, label) for name, label in zip(images.names, images.given, strict=True)]
    probabilities = np.full((len(predicted), 3), (1 - SURE) / 2, dtype=np.float32)
    probabilities[np.arange(len(predicted)), predicted] = SURE
    known = np.ones(len(predicted), dtype=np.bool_)
    return Predictions(probabilities, known, known, "a test")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def colours(dataset_settings: DataSettings) -> dict[tuple[int, ...], str]:
    """Colour of each image → its label in this dataset."""
    dataset = load_dataset(dataset_settings)
    pictures = np.concatenate([dataset.train_images, dataset.validation_images])
    labels = [*dataset.train_labels, *dataset.validation_given_labels]
    return {
        tuple(image[0, 0].tolist()): dataset.class_names[label] for image, label in zip(pictures, labels, strict=True)
    }


WRONG = {f"{CLASSES[0]}/{FILES[3]}": 1, f"{CLASSES[1]}/{FILES[2]}": 2}


def test_the_wrong_labels_come_first_and_every_name_reads_back_from_the_file(
    images: TrainingImages, tmp_path: Path
) -> None:
    table = LabelTable.of(images, predictions_of(images, WRONG))

    table.write_csv(tmp_path / "labels.csv")

    rows = read(tmp_path / "labels.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 19)]
    assert {row["image"]: row["suggested"] for row in rows[:2]} == {name: CLASSES[k] for name, k in WRONG.items()}
    assert {row["image"]: row["given"] for row in rows} == {
        f"{folder}/{name}": folder for folder in CLASSES for name in FILES
    }
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(0.9 / (0.9 + 0.05), abs=1e-5)
    assert {row["out_of_fold"] for row in rows} == {"true"}


def test_a_file_in_which_no_name_holds_a_carriage_return_quotes_only_what_needs_it(settings: DataSettings) -> None:
    digits = DataSettings(max_images=100)
    images = TrainingImages.of(*load_named_dataset(digits), is_validation_separate=False)
    uniform = np.full((100, 10), 0.1, dtype=np.float32)
    known = np.ones(100, dtype=np.bool_)

    text = LabelTable.of(images, Predictions(uniform, known, known, "a test")).correct("replace", above=0.6).text

    assert '"' not in text


def test_the_probabilities_are_in_the_order_of_the_rows(images: TrainingImages, tmp_path: Path) -> None:
    table = LabelTable.of(images, predictions_of(images, WRONG))
    table.write_csv(tmp_path / "labels.csv")
    table.write_probabilities(tmp_path / "probabilities")

    probabilities = np.load(tmp_path / "probabilities", allow_pickle=False)
    rows = read(tmp_path / "labels.csv")
    assert [images.dataset.class_names[k] for k in probabilities.argmax(axis=1)] == [row["suggested"] for row in rows]
    given = [images.dataset.class_names.index(row["given"]) for row in rows]
    assert probabilities[np.arange(18), given] == pytest.approx([float(row["p_given"]) for row in rows], abs=1e-5)


def test_replaced_labels_are_those_that_the_next_search_reads(
    images: TrainingImages, settings: DataSettings, tmp_path: Path
) -> None:
    correction = LabelTable.of(images, predictions_of(images, WRONG)).correct("replace", count=5)
    correction.write(tmp_path / "corrected.csv")

    corrected = colours(settings.model_copy(update={"labels_file": tmp_path / "corrected.csv"}))

    before = colours(settings)
    changed = {colour: label for colour, label in corrected.items() if before[colour] != label}
    assert changed == {(0, 30, 0): CLASSES[1], (80, 20, 0): CLASSES[2]}
    assert corrected.keys() == before.keys()
    assert (correction.images, correction.replaced, correction.dropped, correction.in_sample) == (18, 2, 0, 0)


def test_dropped_images_are_not_in_the_next_search(
    images: TrainingImages, settings: DataSettings, tmp_path: Path
) -> None:
    correction = LabelTable.of(images, predictions_of(images, WRONG)).correct("drop", above=0.5)
    correction.write(tmp_path / "corrected.csv")

    corrected = colours(settings.model_copy(update={"labels_file": tmp_path / "corrected.csv"}))

    before = colours(settings)
    assert before.keys() - corrected.keys() == {(0, 30, 0), (80, 20, 0)}
    assert all(before[colour] == label for colour, label in corrected.items())
    assert (correction.images, correction.replaced, correction.dropped) == (16, 0, 2)


def test_the_labels_before_are_not_taken_for_true_ones_unless_the_true_ones_are_known(
    images: TrainingImages, settings: DataSettings, tmp_path: Path
) -> None:
    path = tmp_path / "corrected.csv"
    LabelTable.of(images, predictions_of(images, WRONG)).correct("replace", count=2).write(path)
    assert load_dataset(settings.model_copy(update={"labels_file": path})).noise_rate is None
    path.unlink()

    digits = DataSettings(noise=0.3, max_images=200)
    noisy = TrainingImages.of(*load_named_dataset(digits), is_validation_separate=False)
    known = np.ones(200, dtype=np.bool_)
    assert noisy.clean is not None
    right = Predictions(np.eye(10, dtype=np.float32)[noisy.clean], known, known, "the truth")
    LabelTable.of(noisy, right).correct("replace", above=0.5).write(path)

    again = load_dataset(DataSettings(labels_file=path))
    assert again.noise_rate == 0
    assert len(again.train_labels) + len(again.validation_labels) == 200


def test_a_label_file_that_would_leave_a_class_without_images_is_refused(images: TrainingImages) -> None:
    ants = {name: 1 for name in images.names if name.startswith(CLASSES[0])}
    table = LabelTable.of(images, predictions_of(images, ants))

    for fix in ("replace", "drop"):
        with pytest.raises(RequestError, match=r"class ' ant' would be left without images: \w+ fewer labels"):
            table.correct(fix, count=6)
        assert table.correct(fix, count=5).images == (18 if fix == "replace" else 13)


@pytest.mark.parametrize(
    ("count", "above", "message"),
    [
        (0, None, r"worst must be in \[1, 18\], the images scored, got 0"),
        (19, None, r"worst must be in \[1, 18\], the images scored, got 19"),
        (None, 1.0, r"above must be a score in \[0, 1\), got 1.0"),
        (None, float("nan"), r"above must be a score in \[0, 1\), got nan"),
        (None, -0.1, r"above must be a score in \[0, 1\), got -0.1"),
        (3, 0.5, "two ways to choose"),
    ],
)
def test_a_choice_of_labels_that_cannot_be_met_is_refused(
    images: TrainingImages, count: int | None, above: float | None, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        LabelTable.of(images, predictions_of(images, WRONG)).correct("replace", count, above)


def test_labels_scored_in_sample_are_counted_where_they_are_changed(images: TrainingImages) -> None:
    first = images.names.index(next(iter(WRONG)))
    predictions = replace(predictions_of(images, WRONG), out_of_fold=np.arange(18) != first)

    table = LabelTable.of(images, predictions)

    assert table.correct("replace", count=4).in_sample == 1
    assert [row[6] for row in table.rows() if row[0] == images.names[first]] == ["false"]


def test_which_classes_are_confused_is_counted_by_given_and_suggested_class(images: TrainingImages) -> None:
    bees = {f"{CLASSES[1]}/{name}": 2 for name in FILES[:3]}

    table = LabelTable.of(images, predictions_of(images, bees | {f"{CLASSES[0]}/{FILES[0]}": 1}))

    assert table.confused() == [(CLASSES[1], CLASSES[2], 3), (CLASSES[0], CLASSES[1], 1)]
    assert table.disagreements() == 4


def test_separate_validation_images_are_not_among_the_training_images(settings: DataSettings, tmp_path: Path) -> None:
    separate = settings.model_copy(update={"clean_validation": settings.data_dir})
    fingerprint = load_dataset(separate).fingerprint

    images = load_training_images(separate, fingerprint, "a test")

    assert len(images.names) == len(images.given) == 18
    assert sum(len(part) for part in images.parts) == 18


def test_images_that_changed_since_the_search_are_refused(settings: DataSettings) -> None:
    fingerprint = load_dataset(settings).fingerprint
    assert settings.data_dir is not None
    Image.new("RGB", (4, 4), (1, 2, 3)).save(settings.data_dir / CLASSES[0] / FILES[0])

    with pytest.raises(RequestError, match="not those that birds was trained on"):
        load_training_images(settings, fingerprint, "birds")
