"""Verified labels as the clean validation labels of a search: of every dataset, and refused where they do not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from trainables.data import load_dataset, load_named_dataset
from trainables.data.streaming import in_memory
from trainables.errors import DatasetError
from trainables.settings import DataSettings
from trainables.verify_csv import CANNOT_TELL, VerifyRow, format_verify_csv

DIGITS: dict[str, Any] = {"dataset": "digits", "noise": 0.4, "noise_kind": "pair_flip", "max_images": 300}


def write_answers(path: Path, rows: list[VerifyRow]) -> Path:
    path.write_text(format_verify_csv(rows), encoding="utf-8")
    return path


def right_answers(settings: DataSettings, count: int) -> list[VerifyRow]:
    """What a person who is always right answers about the first validation images."""
    dataset, names = load_named_dataset(settings)
    assert dataset.validation_clean_labels is not None
    labels = zip(names.validation, dataset.validation_given_labels, dataset.validation_clean_labels, strict=True)
    classes = dataset.class_names
    return [VerifyRow(name, classes[given], classes[clean]) for name, given, clean in [*labels][:count]]


def test_verified_images_are_validated_on_with_their_verified_labels_and_all_others_trained_on(
    tmp_path: Path,
) -> None:
    rows = right_answers(DataSettings(**DIGITS), 40)
    rows[3] = VerifyRow(rows[3].image, rows[3].given, CANNOT_TELL)
    rows[7] = VerifyRow(rows[7].image, rows[7].given, "  ")
    file = write_answers(tmp_path / "verify.csv", rows[::-1])
    everything, all_names = load_named_dataset(DataSettings(**DIGITS))
    pixels = np.concatenate([everything.train_images, everything.validation_images])
    picture_of = dict(zip(all_names.train + all_names.validation, pixels, strict=True))

    dataset, names = load_named_dataset(DataSettings(**DIGITS, verified=file))

    answered = {row.image: row for n, row in enumerate(rows) if n not in (3, 7)}
    assert set(names.validation) == answered.keys()
    assert [int(name) for name in names.validation] == sorted(map(int, names.validation))
    assert set(names.train) == picture_of.keys() - answered.keys()
    assert dataset.validation_labels_kind == "clean"
    assert dataset.validation_noisy_labels is not None
    for name, image, label, noisy in zip(
        names.validation,
        in_memory(dataset.validation_images),
        dataset.validation_labels,
        dataset.validation_noisy_labels,
        strict=True,
    ):
        np.testing.assert_array_equal(image, picture_of[name])
        assert dataset.class_names[label] == answered[name].answer
        assert dataset.class_names[noisy] == answered[name].given
    assert (dataset.validation_labels != dataset.validation_noisy_labels).mean() > 0.2
    assert dataset.folds == 1
    assert dataset.fingerprint != everything.fingerprint


def test_answers_hold_for_images_that_a_label_file_leaves_out_or_max_images_does_not_choose(tmp_path: Path) -> None:
    rows = right_answers(DataSettings(**DIGITS), 30)
    file = write_answers(tmp_path / "verify.csv", rows)
    others = load_named_dataset(DataSettings(max_images=300))[1].train[:100]
    labels = tmp_path / "labels.csv"
    labels.write_text("image,label\n" + "".join(f"{name},{n % 10}\n" for n, name in enumerate(others)))

    _, names = load_named_dataset(DataSettings(labels_file=labels, max_images=60, verified=file))

    assert set(names.validation) == {row.image for row in rows}
    assert len(names.train) <= 60
    assert set(names.train) <= set(others)


def test_a_file_without_given_labels_gives_no_accuracy_on_noisy_ones(tmp_path: Path) -> None:
    rows = [VerifyRow(row.image, "", row.answer) for row in right_answers(DataSettings(**DIGITS), 25)]

    dataset = load_dataset(DataSettings(**DIGITS, verified=write_answers(tmp_path / "verify.csv", rows)))

    assert dataset.validation_noisy_labels is None
    assert len(dataset.validation_labels) == 25


def test_with_verified_labels_a_refit_trains_on_them(tmp_path: Path) -> None:
    rows = right_answers(DataSettings(**DIGITS), 30)
    dataset = load_dataset(DataSettings(**DIGITS, verified=write_answers(tmp_path / "verify.csv", rows)))

    everything = dataset.all_images()

    np.testing.assert_array_equal(everything.train_labels[-30:], dataset.validation_labels)
    assert len(everything.train_labels) == 300
    assert everything.validation_noisy_labels is None


def test_images_in_a_folder_are_named_by_their_paths_whatever_these_hold(tmp_path: Path) -> None:
    classes = (" ant", '=bee(1), "b"')
    for label, name in enumerate(classes):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (4, 4), (200 * label, number, 0)).save(tmp_path / "images" / name / f"é & {number}.png")
    rows = [VerifyRow(f"{classes[0]}/é & {number}.png", classes[0], classes[number % 2]) for number in range(15)]
    rows += [VerifyRow(f"{classes[1]}/é & {number}.png", classes[1], classes[1].upper()) for number in range(10)]
    file = write_answers(tmp_path / "verify.csv", rows)
    settings = DataSettings(
        dataset="folder", data_dir=tmp_path / "images", cache_dir=tmp_path / "cache", verified=file
    )

    dataset, names = load_named_dataset(settings)

    assert names.validation == tuple(sorted(row.image for row in rows))
    found = {
        name: dataset.class_names[label]
        for name, label in zip(names.validation, dataset.validation_labels, strict=True)
    }
    assert found == {row.image: row.answer if row.answer in classes else classes[1] for row in rows}
    assert len(names.train) == 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, VerifyRow("5000", "1", "2")], "names image '5000', which the dataset does not have"),
        (lambda rows: [*rows, rows[0]], "twice: leave one line"),
        (lambda rows: [*rows, VerifyRow(rows[0].image, "1", CANNOT_TELL)], "twice: leave one line"),
        (lambda rows: [VerifyRow(rows[0].image, "1", "eleven"), *rows[1:]], "has answer 'eleven' for image"),
        (lambda rows: rows[:19], "has 19 verified labels: at least 20 are needed"),
        (lambda rows: [], "has 0 verified labels"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path: Path, change: Any, message: str) -> None:
    rows = change(right_answers(DataSettings(**DIGITS), 30))
    file = write_answers(tmp_path / "verify.csv", rows)

    with pytest.raises(DatasetError) as refused:
        load_dataset(DataSettings(**DIGITS, verified=file))

    assert message in str(refused.value)
    assert f"verified {file}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("image,label\n1,2\n", "has no column 'given'"),
        ("image,given,answer\n1,2\n", "line 2 must have 3 fields"),
        ("\udcff", "no CSV file in UTF-8"),
    ],
)
def test_a_file_that_is_no_verify_csv_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "verify.csv"
    if content is not None:
        file.write_text(content, encoding="utf-8", errors="surrogateescape")

    with pytest.raises(DatasetError, match=message) as refused:
        load_dataset(DataSettings(**DIGITS, verified=file))

    assert str(file) in str(refused.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "verify.csv")

    with pytest.raises(DatasetError, match="it is a pipe, not a file"):
        load_dataset(DataSettings(**DIGITS, verified=tmp_path / "verify.csv"))


def test_verified_labels_of_all_images_leave_nothing_to_train_on(tmp_path: Path) -> None:
    settings = DataSettings(max_images=40)
    rows = right_answers(settings, 20)
    dataset, names = load_named_dataset(settings)
    labels = zip(names.train, dataset.train_labels, strict=True)
    rows = [*rows, *(VerifyRow(name, "", dataset.class_names[label]) for name, label in labels)]
    rows += [
        VerifyRow(name, "", dataset.class_names[label])
        for name, label in zip(names.validation, dataset.validation_labels, strict=True)
        if name not in {row.image for row in rows}
    ]

    with pytest.raises(DatasetError, match="leaves no training images"):
        load_dataset(DataSettings(max_images=40, verified=write_answers(tmp_path / "verify.csv", rows)))


def test_two_settings_for_clean_validation_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="clean_validation and verified both name clean validation labels"):
        DataSettings(dataset="folder", data_dir=tmp_path, clean_validation=tmp_path, verified=tmp_path / "a.csv")
