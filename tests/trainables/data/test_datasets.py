"""Datasets as a trial sees them: their splits, their labels and their fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from trainables.data import DATASETS, Dataset, DatasetError, load_dataset, load_test_split
from trainables.data.noise import NOISE_KINDS
from trainables.data.streaming import AnyImages, in_memory
from trainables.settings import DatasetName, DataSettings, NoiseKind

NOISY_DIGITS = DataSettings(dataset="digits", noise=0.4)


def image_keys(images: NDArray[np.uint8]) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_the_table_holds_exactly_the_names_the_settings_allow() -> None:
    assert set(DATASETS) == set(get_args(DatasetName))


def test_digits_come_as_uint8_images_in_three_parts_that_share_no_image() -> None:
    dataset = load_dataset(NOISY_DIGITS)
    test_images, test_labels = load_test_split(NOISY_DIGITS)

    assert in_memory(dataset.train_images).dtype == np.uint8
    assert dataset.train_images.shape[1:] == (8, 8, 1)
    assert in_memory(dataset.train_images).max() == 255
    assert dataset.class_names == tuple("0123456789")
    parts = [in_memory(part) for part in (dataset.train_images, dataset.validation_images, test_images)]
    assert sum(map(len, parts)) == 1797
    assert len(set.union(*map(image_keys, parts))) == 1797
    assert len(test_labels) == len(test_images) == 359
    assert np.bincount(test_labels).min() >= 34  # stratified: a fifth of every class


def test_the_test_split_is_the_same_for_every_data_seed() -> None:
    first_images, first_labels = load_test_split(DataSettings(data_seed=0))
    second_images, second_labels = load_test_split(DataSettings(data_seed=7, noise=0.4, validation_fraction=0.5))

    np.testing.assert_array_equal(first_images, second_images)
    np.testing.assert_array_equal(first_labels, second_labels)


def test_noise_reaches_training_and_validation_labels_and_leaves_the_clean_ones_known() -> None:
    dataset = load_dataset(NOISY_DIGITS)

    assert dataset.validation_labels_kind == "noisy"
    for labels, clean in (
        (dataset.train_labels, dataset.train_clean_labels),
        (dataset.validation_labels, dataset.validation_clean_labels),
    ):
        assert clean is not None
        assert 0.3 < np.mean(labels != clean) < 0.5
    assert dataset.noise_rate == pytest.approx(0.4, abs=0.05)


def test_without_noise_the_labels_are_the_clean_ones_and_are_called_so() -> None:
    dataset = load_dataset(DataSettings(dataset="digits"))

    assert dataset.validation_labels_kind == "clean"
    assert dataset.noise_rate == 0
    np.testing.assert_array_equal(dataset.train_labels, dataset.train_clean_labels)


def test_equal_settings_give_equal_data_and_equal_fingerprints() -> None:
    first, second = load_dataset(NOISY_DIGITS), load_dataset(NOISY_DIGITS)

    assert first.fingerprint == second.fingerprint
    np.testing.assert_array_equal(first.train_images, second.train_images)
    np.testing.assert_array_equal(first.train_labels, second.train_labels)


@pytest.mark.parametrize(
    "changed",
    [
        {"data_seed": 1},
        {"noise": 0.2},
        {"noise_kind": "symmetric_inclusive"},
        {"validation_fraction": 0.3},
    ],
)
def test_other_settings_give_other_fingerprints(changed: dict[str, object]) -> None:
    other = DataSettings.model_validate(NOISY_DIGITS.model_dump() | changed)

    assert load_dataset(other).fingerprint != load_dataset(NOISY_DIGITS).fingerprint


def test_the_split_does_not_change_with_the_noise() -> None:
    clean: Dataset = load_dataset(DataSettings(dataset="digits"))

    np.testing.assert_array_equal(clean.train_images, load_dataset(NOISY_DIGITS).train_images)


def test_the_test_images_are_untouched_by_noise_subsets_and_splits() -> None:
    settings = DataSettings(noise=0.4, max_images=100, data_seed=3)

    np.testing.assert_array_equal(load_test_split(settings)[0], load_test_split(DataSettings())[0])


@pytest.mark.parametrize("kind", [kind for kind in NOISE_KINDS if kind != "asymmetric"])
def test_every_noise_kind_reaches_the_labels_and_its_transitions_are_recorded(kind: NoiseKind) -> None:
    dataset = load_dataset(DataSettings(noise=0.4, noise_kind=kind))

    assert dataset.noise_rate is not None
    assert dataset.noise_rate == pytest.approx(0.4, abs=0.08)
    assert dataset.transition_matrix is not None
    assert dataset.transition_matrix.shape == (10, 10)
    assert dataset.transition_matrix.sum(axis=1) == pytest.approx(1)
    assert dataset.transition_matrix.diagonal().mean() == pytest.approx(1 - dataset.noise_rate, abs=0.01)


def test_asymmetric_noise_follows_the_map_in_the_settings() -> None:
    settings = DataSettings(noise=0.9, noise_kind="asymmetric", noise_map={"3": "8"})

    matrix = load_dataset(settings).transition_matrix

    assert matrix is not None
    assert matrix[3, 8] == pytest.approx(0.9, abs=0.1)
    assert matrix.trace() == pytest.approx(9 + matrix[3, 3])
    with pytest.raises(DatasetError, match=r"noise_map names class 'eight', but the classes are 0, 1"):
        load_dataset(settings.model_copy(update={"noise_map": {"3": "eight"}}))


def test_a_noise_rate_of_zero_leaves_the_labels_alone_whatever_the_kind() -> None:
    assert load_dataset(DataSettings(noise=0, noise_kind="instance_dependent")).noise_rate == 0


def test_clean_validation_labels_are_used_where_they_are_asked_for_and_known() -> None:
    dataset = load_dataset(DataSettings(noise=0.4, validation_labels="clean"))

    assert dataset.validation_labels_kind == "clean"
    np.testing.assert_array_equal(dataset.validation_labels, dataset.validation_clean_labels)
    assert dataset.noise_rate == pytest.approx(0.4, abs=0.05)


def test_fewer_images_keep_the_share_of_every_class() -> None:
    dataset = load_dataset(DataSettings(max_images=200))

    assert (len(dataset.train_images), len(dataset.validation_images)) == (160, 40)
    assert np.bincount(dataset.train_labels).tolist() == pytest.approx([16] * 10, abs=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "folder"}, "data_dir must be set for dataset folder"),
        ({"dataset": "arrays"}, "data_dir must be set for dataset arrays"),
        ({"image_size": 32}, "image_size is for datasets folder and hf/NAME only, got dataset digits"),
        ({"clean_validation": "x"}, "clean_validation is for datasets folder and arrays, got dataset digits"),
        ({"labels_file": "x.npy", "noise": 0.4}, "noise must be 0 with labels_file, .* got 0.4"),
        ({"labels_key": "worse_label"}, "labels_key 'worse_label' needs a labels_file"),
        (
            {"noise_map": {"0": "1"}},
            "noise_map is for noise_kind asymmetric only, got noise_kind symmetric_exclusive",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataSettings.model_validate(settings)


def test_a_split_that_leaves_no_validation_images_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"validation_fraction 0.0001 leaves no validation images"):
        load_dataset(DataSettings(validation_fraction=0.0001))


def labelled(images: AnyImages, labels: NDArray[np.int64]) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(in_memory(images), labels, strict=True)}


def test_over_all_folds_every_image_is_held_out_once_and_never_trained_on_then() -> None:
    dataset = load_dataset(NOISY_DIGITS)
    everything = labelled(dataset.train_images, dataset.train_labels) | labelled(
        dataset.validation_images, dataset.validation_labels
    )
    folds = [dataset.fold(number) for number in range(dataset.folds)]

    assert dataset.folds == 5
    held_out = [labelled(fold.validation_images, fold.validation_labels) for fold in folds]
    assert sorted(map(len, held_out)) == [287, 287, 288, 288, 288]
    assert set.union(*held_out) == everything
    assert sum(map(len, held_out)) == len(everything)
    for fold, out in zip(folds, held_out, strict=True):
        assert labelled(fold.train_images, fold.train_labels) == everything - out
        assert fold.noise_rate == pytest.approx(0.4, abs=0.05)
        assert fold.fingerprint == dataset.fingerprint


def test_the_first_fold_is_the_split_itself_and_numbers_wrap_around() -> None:
    dataset, again = load_dataset(NOISY_DIGITS), load_dataset(NOISY_DIGITS)

    assert dataset.fold(0) is dataset
    assert dataset.fold(5) is dataset
    np.testing.assert_array_equal(dataset.fold(3).validation_images, again.fold(8).validation_images)
    np.testing.assert_array_equal(dataset.fold(3).train_labels, again.fold(8).train_labels)


def test_the_positions_of_a_fold_are_those_of_the_images_it_validates_on() -> None:
    dataset = load_dataset(NOISY_DIGITS)
    everything = np.concatenate([dataset.train_images, dataset.validation_images])

    for number in range(dataset.folds + 1):
        held_out = everything[dataset.held_out_positions(number)]
        np.testing.assert_array_equal(held_out, dataset.fold(number).validation_images)


def test_a_fold_validates_on_clean_labels_where_the_split_does_and_trains_on_the_given_ones() -> None:
    noisy, clean = load_dataset(NOISY_DIGITS), load_dataset(DataSettings(noise=0.4, validation_labels="clean"))

    np.testing.assert_array_equal(clean.fold(2).validation_labels, noisy.fold(2).validation_clean_labels)
    np.testing.assert_array_equal(clean.fold(2).train_labels, noisy.fold(2).train_labels)
    np.testing.assert_array_equal(noisy.fold_labels(7), noisy.fold(2).validation_labels)


def test_all_images_are_those_of_training_and_validation_with_the_labels_they_were_given() -> None:
    dataset = load_dataset(NOISY_DIGITS.model_copy(update={"validation_labels": "clean"}))
    noisy = load_dataset(NOISY_DIGITS)
    all_images = dataset.all_images()

    assert len(all_images.train_images) == len(dataset.train_images) + len(dataset.validation_images)
    assert len(all_images.validation_images) == len(all_images.validation_labels) == 0
    assert labelled(all_images.train_images, all_images.train_labels) == labelled(
        noisy.train_images, noisy.train_labels
    ) | labelled(noisy.validation_images, noisy.validation_labels)


def test_separate_validation_images_are_held_out_in_every_fold(tmp_path: Path) -> None:
    images, labels = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4, 1), np.arange(6) % 2
    for name, part in (("train", slice(0, 4)), ("validation", slice(4, 6))):
        np.savez(tmp_path / name, images=images[part], labels=labels[part])
    validation = tmp_path / "validation.npz"
    dataset = load_dataset(
        DataSettings(dataset="arrays", data_dir=tmp_path / "train.npz", clean_validation=validation)
    )

    assert dataset.folds == 1
    assert dataset.fold(1) is dataset


@pytest.mark.parametrize("place", ["data_dir", "cache_dir"])
def test_a_dataset_that_cannot_be_downloaded_leaves_nothing_behind(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchvision = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(torchvision.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")  # nobody listens
    with pytest.raises(DatasetError, match="could not be downloaded"):
        load_dataset(DataSettings.model_validate({"dataset": "cifar10", place: tmp_path / "new" / "folder"}))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with pytest.raises(DatasetError, match="could not be downloaded"):
        load_dataset(DataSettings.model_validate({"dataset": "cifar10", place: tmp_path / "old"}))
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_images_that_cannot_be_decoded_leave_nothing_in_the_cache(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"no image")
    settings = {"dataset": "folder", "data_dir": tmp_path / "images", "cache_dir": tmp_path / "cache"}
    with pytest.raises(DatasetError, match="cannot decode"):
        load_dataset(DataSettings.model_validate(settings | {"validation_fraction": 0.5}))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
