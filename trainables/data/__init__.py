"""Datasets by name: images and labels as arrays, split, given their label noise, and fingerprinted.

A dataset is read from a `Source` (`sources`, `image_folder`, `hugging_face`), may get its labels from a file
(`labels`), and is split (`splits`, `verified`) and given synthetic noise (`noise`). Its images are in memory or on
disk (`streaming`). NumPy only, no torch: the search driver loads data too. A `Dataset` never holds a test image; only
confirmation and evaluation call `load_test_split`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from trainables.data.hugging_face import hugging_face_source
from trainables.data.image_folder import folder_source
from trainables.data.labels import load_labels
from trainables.data.noise import add_noise
from trainables.data.sources import (
    MAX_CLASSES,
    LabelledImages,
    Labels,
    Source,
    Split,
    arrays_source,
    cifar_source,
    digits_source,
    plugin_source,
)
from trainables.data.splits import stratified_choice, stratified_folds, stratified_split
from trainables.data.streaming import AnyImages, ImagesOnDisk, join_images, select_images
from trainables.data.verified import read_verified
from trainables.errors import DatasetError
from trainables.metrics import confusion_matrix
from trainables.plugins import is_plugin
from trainables.settings import HUGGING_FACE_PREFIX, DatasetName, DataSettings, LabelsKind

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetError",
    "ImageNames",
    "load_dataset",
    "load_named_dataset",
    "load_test_split",
]

DATASETS: dict[DatasetName, Callable[[DataSettings, Split], Source]] = {
    "digits": digits_source,
    "cifar10": cifar_source,
    "cifar100": cifar_source,
    "folder": folder_source,
    "arrays": arrays_source,
}


def _source(settings: DataSettings, split: Split) -> Source:
    if is_plugin(settings.dataset):
        return plugin_source(settings, split)
    if settings.dataset.startswith(HUGGING_FACE_PREFIX):
        return hugging_face_source(settings, split)
    return DATASETS[cast(DatasetName, settings.dataset)](settings, split)


_SPLIT_STREAM, _NOISE_STREAM, _SUBSET_STREAM = 0, 1, 2  # random streams: the split does not depend on the noise
_FOLD_SEED = 0  # of every dataset: the folds follow from the data alone


@dataclass(frozen=True)
class Dataset:
    """The images and labels that trials train and validate on."""

    name: str  # in the settings
    class_names: tuple[str, ...]  # K, in label order
    train_images: AnyImages  # [N, H, W, C] uint8
    train_labels: Labels  # [N] int64 in [0, K), as given: noisy
    validation_images: AnyImages  # [M, H, W, C] uint8
    validation_labels: Labels  # [M] int64 in [0, K)
    validation_given_labels: Labels  # [M] as given, for training on these images in another fold
    train_clean_labels: Labels | None  # [N] where known; for reports only, never for training
    validation_clean_labels: Labels | None  # [M] where known
    validation_labels_kind: LabelsKind  # of `validation_labels`; every accuracy is printed with it
    fingerprint: str  # sha256 over class names, images (on disk: names and sizes of files), labels and split
    folds: int  # how many `fold` tells apart; 1 with `clean_validation` and `verified`: nothing rotates
    # [M] as they are in the data, where `validation_labels` are verified; for reports only
    validation_noisy_labels: Labels | None = None

    def fold(self, number: int) -> Dataset:
        """Returns the dataset with other images held out: those of fold `number` mod `folds`.

        Fold 0 is this split. The others partition its training images, stratified by given label, so that each image
        is held out in one fold. Equal data have equal folds; the fingerprint stays that of fold 0.
        """
        if number % self.folds == 0:
            return self
        held_out, clean = self.held_out_positions(number), self.train_clean_labels
        kept = np.setdiff1d(np.arange(len(self.train_labels)), held_out)
        return replace(
            self._train_on(kept),
            validation_images=select_images(self.train_images, held_out),
            validation_labels=self.fold_labels(number),
            validation_given_labels=self.train_labels[held_out],
            validation_clean_labels=None if clean is None else clean[held_out],
        )

    def fold_labels(self, number: int) -> Labels:
        """Returns the validation labels of a fold, without a copy of its images."""
        if number % self.folds == 0:
            return self.validation_labels
        clean = self.train_clean_labels
        labels = self.train_labels if clean is None or self.validation_labels_kind == "noisy" else clean
        return labels[self.held_out_positions(number)]

    def held_out_positions(self, number: int) -> Labels:
        """Returns the positions of the images that a fold holds out, as it validates on them, one by one.

        They are counted over the training images and then the validation images, of this split.
        """
        if number % self.folds == 0:
            return np.arange(len(self.train_labels), len(self.train_labels) + len(self.validation_labels))
        folds = stratified_folds(self.train_labels, self.folds - 1, np.random.default_rng(_FOLD_SEED))
        return folds[number % self.folds - 1]

    def all_images(self) -> Dataset:
        """Returns the dataset with all images, as they were labelled, to train on, and none to validate on."""
        return replace(
            self._train_on(np.arange(len(self.train_labels))),
            validation_images=select_images(self.validation_images, np.arange(0)),
            validation_labels=self.validation_labels[:0],
            validation_given_labels=self.validation_given_labels[:0],
            validation_clean_labels=None,
            validation_noisy_labels=None,
            folds=1,
        )

    def _train_on(self, kept: Labels) -> Dataset:
        """Trains on these of the training images, and on all validation images."""
        clean_labels = None
        if self.train_clean_labels is not None and self.validation_clean_labels is not None:
            clean_labels = np.concatenate([self.train_clean_labels[kept], self.validation_clean_labels])
        return replace(
            self,
            train_images=join_images(select_images(self.train_images, kept), self.validation_images),
            train_labels=np.concatenate([self.train_labels[kept], self.validation_given_labels]),
            train_clean_labels=clean_labels,
        )

    @property
    def images_on_disk(self) -> tuple[ImagesOnDisk, ...]:
        """The images that stay on disk; none if all are in memory."""
        return tuple(each for each in (self.train_images, self.validation_images) if isinstance(each, ImagesOnDisk))

    @property
    def is_prepared(self) -> bool:
        """Whether all images on disk are decoded on this machine."""
        return all(images.is_prepared for images in self.images_on_disk)

    def prepare(self) -> str | None:
        """Decodes images that stay on disk into `cache_dir`, where this machine has not done that yet.

        Returns a sentence if they do not fit there, and are decoded in every epoch. Raises DatasetError if an image
        cannot be decoded, or `cache_dir` not be written to.
        """
        notes = [images.prepare() for images in self.images_on_disk]
        return next((note for note in notes if note is not None), None)

    @property
    def noise_rate(self) -> float | None:
        """Fraction of training labels that differ from the clean ones; None if those are unknown."""
        if self.train_clean_labels is None:
            return None
        return float(np.mean(self.train_labels != self.train_clean_labels))

    @property
    def transition_matrix(self) -> NDArray[np.float64] | None:
        """[K, K]: of the training images of a true class (row), the fraction labelled as each class (column).

        A class without images has a row of zeros. None if the clean labels are unknown.
        """
        if self.train_clean_labels is None:
            return None
        counts = confusion_matrix(self.train_clean_labels, self.train_labels, len(self.class_names))
        matrix: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return matrix


class ImageNames(NamedTuple):
    """The names by which label files name a dataset's images: paths, or positions where they are no files."""

    train: tuple[str, ...]  # N
    validation: tuple[str, ...]  # M


def load_dataset(settings: DataSettings) -> Dataset:
    """Loads, splits and adds label noise; equal settings give equal arrays. Raises DatasetError if it cannot."""
    return load_named_dataset(settings)[0]


def load_named_dataset(settings: DataSettings) -> tuple[Dataset, ImageNames]:
    """Loads a dataset as `load_dataset` does, and the names of its images."""
    every_image = _source(settings, "train")
    source = load_labels(every_image, settings)
    assert source.labels is not None  # its own or the label file's
    assert source.class_names is not None
    if not 2 <= len(source.class_names) <= MAX_CLASSES:
        raise DatasetError(
            f"dataset {settings.dataset} must have 2 to {MAX_CLASSES:,} classes, got {len(source.class_names):,}"
        )
    if settings.max_images is not None and settings.max_images < source.image_count:
        source = source.select(
            stratified_choice(source.labels, settings.max_images, _generator(settings, _SUBSET_STREAM))
        )
    given = source.read()
    pool = add_noise(given, settings, _generator(settings, _NOISE_STREAM))
    if settings.verified is not None:
        split = _verified_split(settings.verified, every_image, source, pool)
    elif settings.clean_validation is not None:
        split = _separate_split(settings, source, pool)
    else:
        split = _fraction_split(settings, source, pool, given.labels)
    train, validation = split.train, split.validation
    validation_given_labels = validation.labels
    if settings.validation_labels == "clean":
        if validation.clean_labels is None:
            raise DatasetError("validation_labels must be noisy: the clean labels of this dataset are not known")
        validation = replace(validation, labels=validation.clean_labels)

    dataset = Dataset(
        name=settings.dataset,
        class_names=pool.class_names,
        train_images=train.images,
        train_labels=train.labels,
        validation_images=validation.images,
        validation_labels=validation.labels,
        validation_given_labels=validation_given_labels,
        train_clean_labels=train.clean_labels,
        validation_clean_labels=validation.clean_labels,
        validation_labels_kind="clean" if validation.is_clean else "noisy",
        fingerprint=_fingerprint(pool.class_names, train.images, train.labels, validation.images, validation.labels),
        folds=split.folds,
        validation_noisy_labels=split.noisy_labels,
    )
    return dataset, split.names


class _Split(NamedTuple):
    """The images to train on and to validate on."""

    train: LabelledImages
    validation: LabelledImages
    names: ImageNames
    folds: int = 1
    noisy_labels: Labels | None = None  # of the validation images, where theirs are verified


def _fraction_split(settings: DataSettings, source: Source, pool: LabelledImages, labels: Labels) -> _Split:
    """Holds out a fraction of the pool, the same of every class by these labels."""
    indexes = stratified_split(labels, settings.validation_fraction, _generator(settings, _SPLIT_STREAM))
    for name, index in zip(("training", "validation"), indexes, strict=True):
        if len(index) == 0:
            raise DatasetError(
                f"validation_fraction {settings.validation_fraction} leaves no {name} images of {len(pool.labels)}"
            )
    train, validation = (pool.select(index) for index in indexes)
    names = ImageNames(*(source.select(index).image_names for index in indexes))
    return _Split(train, validation, names, min(round(1 / settings.validation_fraction), len(indexes[0]) + 1))


def _separate_split(settings: DataSettings, source: Source, pool: LabelledImages) -> _Split:
    """Trains on the whole pool and validates on `clean_validation`."""
    train = pool.select(np.arange(len(pool.labels)))
    validation, names = _clean_split(settings, "clean_validation", pool.class_names)
    if validation.images.shape[1:] != pool.images.shape[1:]:
        raise DatasetError(
            f"clean_validation {settings.clean_validation} has images of shape {list(validation.images.shape[1:])}, "
            f"but data_dir of shape {list(pool.images.shape[1:])}: all must have one shape"
        )
    return _Split(train, validation, ImageNames(source.image_names, names))


def _verified_split(path: Path, every_image: Source, source: Source, pool: LabelledImages) -> _Split:
    """Validates on the images with a verified label, which the pool may lack, and trains on the others."""
    verified = read_verified(path, every_image.image_names, pool.class_names)
    held_out = set(verified.image_names)
    kept = np.array([n for n, name in enumerate(source.image_names) if name not in held_out], dtype=np.int64)
    if len(kept) == 0:
        raise DatasetError(f"verified {path} leaves no training images: it names all of them")
    images = every_image.read_images(verified.positions)
    validation = LabelledImages(images, verified.labels, verified.labels, pool.class_names)
    names = ImageNames(source.select(kept).image_names, verified.image_names)
    return _Split(pool.select(kept), validation, names, noisy_labels=verified.noisy_labels)


def load_test_split(settings: DataSettings) -> tuple[AnyImages, Labels]:
    """Loads the held-out test set, images [N, H, W, C] and clean labels [N]; for confirmation and evaluation only.

    Raises DatasetError if the settings cannot be met, or the dataset has no test split.
    """
    class_names = load_labels(_source(settings, "train"), settings).class_names
    assert class_names is not None  # the images' own or the label file's
    test, _ = _clean_split(settings, "test", class_names)
    return test.images, test.labels


def _clean_split(
    settings: DataSettings, split: Split, class_names: tuple[str, ...]
) -> tuple[LabelledImages, tuple[str, ...]]:
    """A split with separate, clean labels, which are matched to the training classes by name, and its image names."""
    source = _source(settings, split)
    data = source.read()
    unknown = set(data.class_names) - set(class_names)
    if unknown:
        raise DatasetError(
            f"the {split} images have class {min(unknown)!r}, which is none of the {len(class_names)} training "
            f"classes {', '.join(class_names)}"
        )
    labels = np.asarray([class_names.index(name) for name in data.class_names], dtype=np.int64)[data.labels]
    return LabelledImages(data.images, labels, labels, class_names), source.image_names


def _generator(settings: DataSettings, stream: int) -> np.random.Generator:
    return np.random.default_rng([settings.data_seed, stream])


def _fingerprint(class_names: tuple[str, ...], *arrays: AnyImages | Labels) -> str:
    digest = hashlib.sha256("\0".join(class_names).encode())
    for array in arrays:
        if isinstance(array, ImagesOnDisk):
            digest.update(array.digest())
            continue
        digest.update(f"\0{array.dtype.str} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
