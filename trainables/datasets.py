"""Datasets by name: images and labels as arrays, split, given their label noise, and fingerprinted.

NumPy only, no torch: the search driver loads data too. Trials see a `Dataset`, which never holds a test
image; the test split is sealed behind `load_test_split`, which only confirmation and evaluation call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainables.errors import DatasetError
from trainables.noise import NOISE_KINDS, CleanData
from trainables.settings import DatasetName, DataSettings
from trainables.splits import stratified_split

__all__ = ["DATASETS", "Dataset", "DatasetError", "load_dataset", "load_test_split"]

Labels = NDArray[np.int64]
Images = NDArray[np.uint8]

_DIGITS_TEST_FRACTION = 0.2
_DIGITS_TEST_SEED = 0  # fixed: the test images are the same for every data_seed
_SPLIT_STREAM, _NOISE_STREAM = 0, 1  # the split does not change when the noise does


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
        noise_rate: share of training and validation labels that differ from the clean ones; None if unknown.
        fingerprint: sha256 over images, labels and split; equal data and equal fingerprint go together.
    """

    name: str
    class_names: tuple[str, ...]
    train_images: Images
    train_labels: Labels
    validation_images: Images
    validation_labels: Labels
    train_clean_labels: Labels | None
    validation_clean_labels: Labels | None
    validation_labels_kind: Literal["noisy", "clean"]
    noise_rate: float | None
    fingerprint: str


def load_dataset(settings: DataSettings) -> Dataset:
    """Load, split and add label noise; equal settings give equal arrays.

    Raises:
        DatasetError: if the settings cannot be met.
    """
    clean = DATASETS[settings.dataset](settings, "train")
    noisy_labels = clean.labels
    if settings.noise > 0:
        add_noise = NOISE_KINDS[settings.noise_kind]
        noisy_labels = add_noise(clean, settings.noise, _generator(settings, _NOISE_STREAM))

    train_index, validation_index = stratified_split(
        clean.labels, settings.validation_fraction, _generator(settings, _SPLIT_STREAM)
    )
    for part, index in (("validation", validation_index), ("training", train_index)):
        if len(index) == 0:
            raise DatasetError(
                f"validation_fraction {settings.validation_fraction} leaves no {part} images"
                f" of {len(clean.labels)}"
            )

    return Dataset(
        name=settings.dataset,
        class_names=clean.class_names,
        train_images=clean.images[train_index],
        train_labels=noisy_labels[train_index],
        validation_images=clean.images[validation_index],
        validation_labels=noisy_labels[validation_index],
        train_clean_labels=clean.labels[train_index],
        validation_clean_labels=clean.labels[validation_index],
        validation_labels_kind="noisy" if settings.noise > 0 else "clean",
        noise_rate=float(np.mean(noisy_labels != clean.labels)),
        fingerprint=_fingerprint(clean.images, noisy_labels, train_index, validation_index),
    )


def load_test_split(settings: DataSettings) -> tuple[Images, Labels]:
    """The sealed test split: images [N, H, W, C] and clean labels [N].

    Only confirmation and evaluation call this.

    Raises:
        DatasetError: if the settings cannot be met.
    """
    test = DATASETS[settings.dataset](settings, "test")
    return test.images, test.labels


def _load_digits(settings: DataSettings, split: Literal["train", "test"]) -> CleanData:
    """scikit-learn's 1,797 handwritten digits, 8×8 grey; a fixed fifth of every class is the test split."""
    from sklearn.datasets import load_digits  # slow to import, and only digits need it

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]  # pixels come as 0 … 16
    labels = digits.target.astype(np.int64)
    train_index, test_index = stratified_split(
        labels, _DIGITS_TEST_FRACTION, np.random.default_rng(_DIGITS_TEST_SEED)
    )
    index = train_index if split == "train" else test_index
    return CleanData(images[index], labels[index], tuple(str(digit) for digit in range(10)))


DATASETS: dict[DatasetName, Callable[[DataSettings, Literal["train", "test"]], CleanData]] = {
    "digits": _load_digits,
}


def _generator(settings: DataSettings, stream: int) -> np.random.Generator:
    return np.random.default_rng([settings.data_seed, stream])


def _fingerprint(*arrays: NDArray[np.uint8] | NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
