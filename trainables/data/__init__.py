"""Datasets by name: images and labels as arrays, split, given their label noise, and fingerprinted.

NumPy only, no torch: the search driver loads data too. Trials see a `Dataset`, which never holds a test image; the
test split is sealed behind `load_test_split`, which only confirmation and evaluation call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainables.data.image_folder import folder_source
from trainables.data.labels import LabelPool, labelled_pool, limited, with_noise
from trainables.data.sources import Images, Labels, Source, Split, arrays_source, cifar_source, digits_source
from trainables.data.splits import stratified_split
from trainables.errors import DatasetError
from trainables.settings import DatasetName, DataSettings, LabelsKind

__all__ = ["DATASETS", "Dataset", "DatasetError", "load_dataset", "load_test_split"]

DATASETS: dict[DatasetName, Callable[[DataSettings, Split], Source]] = {
    "digits": digits_source,
    "cifar10": cifar_source,
    "cifar100": cifar_source,
    "folder": folder_source,
    "arrays": arrays_source,
}

_SPLIT_STREAM, _NOISE_STREAM, _SUBSET_STREAM = 0, 1, 2  # of random numbers: the split does not change with the noise


@dataclass(frozen=True)
class Dataset:
    """What trials train and validate on.

    Attributes:
        name: the dataset's name in the settings.
        class_names: K names, in label order.
        train_images: [N, H, W, C] uint8.
        train_labels: [N] int64 in [0, K), as given: noisy.
        validation_images: [M, H, W, C] uint8.
        validation_labels: [M] int64.
        train_clean_labels: [N] int64 where known; for the eye only, never for training.
        validation_clean_labels: [M] int64 where known.
        validation_labels_kind: which labels `validation_labels` are; every accuracy is printed with it.
        fingerprint: sha256 over class names, images and labels; equal data and equal fingerprint go together.
    """

    name: str
    class_names: tuple[str, ...]
    train_images: Images
    train_labels: Labels
    validation_images: Images
    validation_labels: Labels
    train_clean_labels: Labels | None
    validation_clean_labels: Labels | None
    validation_labels_kind: LabelsKind
    fingerprint: str

    @property
    def noise_rate(self) -> float | None:
        """Share of training labels that differ from the clean ones; None where those are unknown."""
        if self.train_clean_labels is None:
            return None
        return float(np.mean(self.train_labels != self.train_clean_labels))

    @property
    def transition_matrix(self) -> NDArray[np.float64] | None:
        """[K, K]: of the training images of a true class (row), the share labelled as each class (column).

        A class without images has a row of zeros. None where the clean labels are unknown.
        """
        if self.train_clean_labels is None:
            return None
        class_count = len(self.class_names)
        pairs = self.train_clean_labels * class_count + self.train_labels
        counts = np.bincount(pairs, minlength=class_count**2).reshape(class_count, class_count)
        matrix: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return matrix


def load_dataset(settings: DataSettings) -> Dataset:
    """Load, split and add label noise; equal settings give equal arrays.

    Raises:
        DatasetError: if the settings cannot be met.
    """
    source = DATASETS[settings.dataset](settings, "train")
    pool = limited(labelled_pool(source, settings), settings.max_images, _generator(settings, _SUBSET_STREAM))
    if len(pool.class_names) < 2:
        raise DatasetError(f"dataset {settings.dataset} must have at least 2 classes, got {len(pool.class_names)}")
    images = source.read_images(pool.positions)
    train_index, validation_index = _split(pool, settings)
    pool = with_noise(pool, images, settings, _generator(settings, _NOISE_STREAM))

    train = _Part.of(pool, images, train_index)
    if settings.clean_validation is None:
        validation = _Part.of(pool, images, validation_index)
    else:
        validation = _clean_part(settings, "clean_validation", pool.class_names)
        if validation.images.shape[1:] != images.shape[1:]:
            raise DatasetError(
                f"clean_validation {settings.clean_validation} has images of shape "
                f"{list(validation.images.shape[1:])}, but data_dir of shape {list(images.shape[1:])}"
            )
    if settings.validation_labels == "clean":
        if validation.clean_labels is None:
            raise DatasetError("validation_labels must be noisy: the clean labels of this dataset are not known")
        validation = replace(validation, labels=validation.clean_labels)

    return Dataset(
        name=settings.dataset,
        class_names=pool.class_names,
        train_images=train.images,
        train_labels=train.labels,
        validation_images=validation.images,
        validation_labels=validation.labels,
        train_clean_labels=train.clean_labels,
        validation_clean_labels=validation.clean_labels,
        validation_labels_kind="clean" if validation.is_known_to_be_clean() else "noisy",
        fingerprint=_fingerprint(pool.class_names, train.images, train.labels, validation.images, validation.labels),
    )


def load_test_split(settings: DataSettings) -> tuple[Images, Labels]:
    """The sealed test split: images [N, H, W, C] and clean labels [N].

    Only confirmation and evaluation call this.

    Raises:
        DatasetError: if the settings cannot be met, or the dataset has no test split.
    """
    pool = labelled_pool(DATASETS[settings.dataset](settings, "train"), settings)
    test = _clean_part(settings, "test", pool.class_names)
    return test.images, test.labels


@dataclass(frozen=True)
class _Part:
    """Images [N, H, W, C] with their labels [N] as given, and the clean ones [N] where known."""

    images: Images
    labels: Labels
    clean_labels: Labels | None

    @classmethod
    def of(cls, pool: LabelPool, images: Images, index: Labels) -> _Part:
        """The images of the pool at `index`, in memory."""
        clean_labels = None if pool.clean_labels is None else pool.clean_labels[index]
        return cls(np.asarray(images[index]), pool.labels[index], clean_labels)

    def is_known_to_be_clean(self) -> bool:
        """Whether the labels as given are the clean ones."""
        return self.clean_labels is not None and np.array_equal(self.labels, self.clean_labels)


def _split(pool: LabelPool, settings: DataSettings) -> tuple[Labels, Labels]:
    """Where in the pool the images to train on are, and those to validate on: none if `clean_validation` is set."""
    if settings.clean_validation is not None:
        return np.arange(len(pool.labels)), np.arange(0)
    train_index, validation_index = stratified_split(
        pool.labels, settings.validation_fraction, _generator(settings, _SPLIT_STREAM)
    )
    for name, index in (("validation", validation_index), ("training", train_index)):
        if len(index) == 0:
            raise DatasetError(
                f"validation_fraction {settings.validation_fraction} leaves no {name} images of {len(pool.labels)}"
            )
    return train_index, validation_index


def _clean_part(settings: DataSettings, split: Split, class_names: tuple[str, ...]) -> _Part:
    """A split with labels of its own, clean ones, which are matched to the training classes by name."""
    source = DATASETS[settings.dataset](settings, split)
    assert source.labels is not None  # only the training split may come without
    assert source.class_names is not None
    unknown = set(source.class_names) - set(class_names)
    if unknown:
        raise DatasetError(
            f"the {split} images have class {min(unknown)!r}, which is none of the {len(class_names)} training "
            f"classes {', '.join(class_names)}"
        )
    label_of = np.asarray([class_names.index(name) for name in source.class_names], dtype=np.int64)
    labels = label_of[source.labels]
    return _Part(np.asarray(source.read_images(np.arange(source.image_count))), labels, labels)


def _generator(settings: DataSettings, stream: int) -> np.random.Generator:
    return np.random.default_rng([settings.data_seed, stream])


def _fingerprint(class_names: tuple[str, ...], *arrays: NDArray[np.uint8] | NDArray[np.int64]) -> str:
    digest = hashlib.sha256("\0".join(class_names).encode())
    for array in arrays:
        digest.update(f"\0{array.dtype.str} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
