"""Real images and real human labels: CIFAR-10 (JPEG) with CIFAR-10N, where the data lie beside the repository."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from trainables.data import load_dataset, load_test_split
from trainables.settings import DataSettings

DATA = Path(__file__).parents[4] / "shared" / "data"
IMAGES_PER_CLASS = 200  # of the 5,000: unpacking all takes longer than testing

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"needs CIFAR-10 (JPEG) and CIFAR-10N in {DATA}")


@pytest.fixture(scope="module")
def cifar10n(tmp_path_factory: pytest.TempPathFactory) -> DataSettings:
    """The first images of every class as a folder, and their human labels as a file."""
    root = tmp_path_factory.mktemp("cifar10n")
    with tarfile.open(DATA / "cifar10-jpeg.tar.xz") as archive:
        for member in archive:
            if member.isfile() and int(Path(member.name).stem) < IMAGES_PER_CLASS:
                archive.extract(member, root / "images", filter="data")

    with np.load(DATA / "cifar10n.npz") as every_label:
        first_of_class = np.arange(50_000).reshape(10, 5000)[:, :IMAGES_PER_CLASS].ravel()
        np.savez(root / "labels.npz", **{name: every_label[name][first_of_class] for name in every_label})
    return DataSettings(
        dataset="folder",
        data_dir=root / "images",
        labels_file=root / "labels.npz",
        labels_key="worse_label",
        cache_dir=root / "cache",
    )


def test_human_labels_belong_to_their_images_and_have_the_published_noise_rate(cifar10n: DataSettings) -> None:
    dataset = load_dataset(cifar10n)

    assert dataset.class_names[3] == "cat"
    assert dataset.train_images.shape == (1600, 32, 32, 3)
    assert dataset.validation_labels_kind == "noisy"
    assert dataset.noise_rate == pytest.approx(0.4021, abs=0.037)  # three standard errors
    assert dataset.transition_matrix is not None
    confusions = dataset.transition_matrix - np.diag(dataset.transition_matrix.diagonal())
    cat, dog = dataset.class_names.index("cat"), dataset.class_names.index("dog")
    assert confusions[cat].argmax() == dog


def test_clean_validation_labels_can_be_asked_for(cifar10n: DataSettings) -> None:
    noisy = load_dataset(cifar10n)

    clean = load_dataset(cifar10n.model_copy(update={"validation_labels": "clean"}))

    assert clean.validation_labels_kind == "clean"
    np.testing.assert_array_equal(clean.validation_images, noisy.validation_images)
    np.testing.assert_array_equal(clean.train_labels, noisy.train_labels)
    np.testing.assert_array_equal(clean.validation_labels, noisy.validation_clean_labels)


def test_the_test_split_has_the_clean_labels_of_its_folders(cifar10n: DataSettings) -> None:
    images, labels = load_test_split(cifar10n)

    assert images.shape == (2000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [IMAGES_PER_CLASS] * 10
