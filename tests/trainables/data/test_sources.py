"""Datasets that come as one file or through a library: `.npz` arrays and CIFAR."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100

from trainables.data import DatasetError, load_dataset, load_test_split
from trainables.data.streaming import in_memory
from trainables.settings import DataSettings


def some_arrays(count: int = 20) -> dict[str, NDArray[np.integer]]:
    generator = np.random.default_rng(0)
    return {
        "images": generator.integers(0, 256, size=(count, 5, 4, 3), dtype=np.uint8),
        "labels": np.arange(count) % 2,
    }


def arrays_settings(path: Path, **others: object) -> DataSettings:
    return DataSettings.model_validate({"dataset": "arrays", "data_dir": path, **others})


def save(path: Path, **arrays: NDArray[np.generic]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub takes any keyword for allow_pickle
    return path


def test_arrays_come_back_as_they_were_saved(tmp_path: Path) -> None:
    arrays = some_arrays()
    path = save(tmp_path / "data.npz", **arrays, class_names=np.array(["cat", "dog"]))

    dataset = load_dataset(arrays_settings(path))

    assert dataset.class_names == ("cat", "dog")
    assert dataset.validation_labels_kind == "noisy"
    assert dataset.noise_rate is None
    images = np.concatenate([dataset.train_images, dataset.validation_images])
    labels = np.concatenate([dataset.train_labels, dataset.validation_labels])
    given = {image.tobytes(): label for image, label in zip(arrays["images"], arrays["labels"], strict=True)}
    assert {image.tobytes(): label for image, label in zip(images, labels, strict=True)} == given


def test_grey_images_may_come_without_a_channel_axis_and_classes_without_names(tmp_path: Path) -> None:
    arrays = some_arrays()
    path = save(tmp_path / "data.npz", images=arrays["images"][..., 0], labels=arrays["labels"].astype(np.uint8))

    dataset = load_dataset(arrays_settings(path))

    assert dataset.train_images.shape == (16, 5, 4, 1)
    assert dataset.class_names == ("0", "1")


def test_clean_labels_in_the_file_give_the_noise_rate_and_transitions(tmp_path: Path) -> None:
    labels = np.array([0, 0, 0, 1] * 10)
    clean_labels = np.array([0, 0, 1, 1] * 10)
    path = save(
        tmp_path / "data.npz", images=np.zeros((40, 2, 2, 1), np.uint8), labels=labels, clean_labels=clean_labels
    )

    dataset = load_dataset(arrays_settings(path, validation_fraction=0.1))

    assert dataset.train_clean_labels is not None
    assert dataset.noise_rate == np.mean(dataset.train_labels != dataset.train_clean_labels)
    assert dataset.transition_matrix == pytest.approx(np.array([[1, 0], [0.5, 0.5]]), abs=0.1)
    with pytest.raises(DatasetError, match=r"noise must be 0 for labels that are noisy already, got 0\.2"):
        load_dataset(arrays_settings(path, noise=0.2))


def test_the_test_arrays_are_the_test_split(tmp_path: Path) -> None:
    arrays = some_arrays()
    path = save(
        tmp_path / "data.npz", **arrays, test_images=arrays["images"][:3] // 2, test_labels=arrays["labels"][:3]
    )

    images, labels = load_test_split(arrays_settings(path))

    np.testing.assert_array_equal(images, arrays["images"][:3] // 2)
    np.testing.assert_array_equal(labels, arrays["labels"][:3])


def test_a_clean_validation_file_is_validated_on_and_called_clean(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", **some_arrays())
    checked = save(tmp_path / "checked.npz", **some_arrays(6))

    dataset = load_dataset(arrays_settings(path, clean_validation=checked))

    assert dataset.validation_labels_kind == "clean"
    assert (len(dataset.train_labels), len(dataset.validation_labels)) == (20, 6)


IMAGES, LABELS = some_arrays()["images"], some_arrays()["labels"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS}, r"has no array 'images'; it has labels"),
        ({"images": IMAGES}, r"has no array 'labels'; it has images"),
        ({"images": IMAGES / 255, "labels": LABELS}, r"images in .* must be uint8 .* got float64"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, r"images in .* must be uint8 .* shape \[20, 5, 4, 2\]"),
        ({"images": IMAGES[:19], "labels": LABELS}, r"19 images but 20 labels"),
        ({"images": IMAGES, "labels": LABELS - 1}, r"label -1 at position 0, but there are 1 classes"),
        ({"images": IMAGES, "labels": LABELS * 1.0}, r"labels in .* must be integers .* got float64"),
        ({"images": IMAGES, "labels": LABELS[:0]}, r"labels in .* must be integers .* shape \[0\]"),
        ({"images": IMAGES, "labels": LABELS, "class_names": np.array(["only"])}, r"label 1 .* 1 classes, 0 to 0"),
        ({"images": IMAGES, "labels": LABELS, "clean_labels": LABELS[1:]}, r"20 labels but 19 clean_labels"),
        ({"images": IMAGES, "labels": np.array([0, None] * 10)}, r"cannot read 'labels' .*Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, NDArray[np.generic]], message: str
) -> None:
    path = save(tmp_path / "data.npz", **arrays)

    with pytest.raises(DatasetError, match=message):
        load_dataset(arrays_settings(path))


def test_a_header_that_claims_more_than_the_file_holds_is_refused_unread(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", images=some_arrays()["images"])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|i1", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.npy", header.getvalue() + bytes(20))
    with pytest.raises(DatasetError, match=r"cannot read 'labels' .*has 1,000,000,000,000 bytes, the file holds"):
        load_dataset(arrays_settings(path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.where(np.arange(20) == 3, 10**9, 0)}, "label 1000000000 at position 3 would make as many"),
        (
            {"class_names": np.array("cat")},
            r"class_names in .* must be up to 10,000 different texts .* of shape \[\]",
        ),
        ({"class_names": np.array(["cat", "cat"])}, "class_names in .* must be up to 10,000 different texts"),
        ({"class_names": np.arange(20_000)}, "class_names in .* must be up to 10,000 different texts"),
        ({"images": np.zeros((20, 0, 4, 3), np.uint8)}, "images in .* must be uint8"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(
    tmp_path: Path, changed: dict[str, NDArray[np.generic]], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset(arrays_settings(save(tmp_path / "data.npz", **some_arrays() | changed)))


def test_an_encrypted_or_foreign_member_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", images=some_arrays()["images"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels", "not an array")
    with pytest.raises(DatasetError, match=r"cannot read 'labels' in"):
        load_dataset(arrays_settings(path))
    content = bytearray(save(tmp_path / "locked.npz", **some_arrays()).read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = -1
        while (position := content.find(signature, position + 1)) >= 0:
            content[position + flags] |= 1
    (tmp_path / "locked.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"cannot read 'labels' .* encrypted"):
        load_dataset(arrays_settings(tmp_path / "locked.npz"))


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "one.npy", LABELS)

    for name, message in (
        ("text.npz", "cannot read"),
        ("one.npy", "not an .npz file"),
        ("absent.npz", "No such file"),
        ("", "not a file"),
    ):
        with pytest.raises(DatasetError, match=message):
            load_dataset(arrays_settings(tmp_path / name))
    with pytest.raises(DatasetError, match="has no array 'test_labels'"):
        load_test_split(arrays_settings(save(tmp_path / "data.npz", **some_arrays())))


@pytest.mark.parametrize("cifar_class", [CIFAR10, CIFAR100])
def test_cifar_is_found_under_the_data_dir_in_torchvisions_format(
    cifar_class: type[CIFAR10], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny files in the published format, whose checksums torchvision is told."""
    images = write_tiny_cifar(cifar_class, tmp_path, monkeypatch)
    settings = DataSettings.model_validate(
        {"dataset": cifar_class.__name__.lower(), "data_dir": tmp_path, "noise": 0.4}
    )

    dataset = load_dataset(settings)
    test_images, test_labels = load_test_split(settings)

    assert dataset.class_names == ("a", "b", "c", "d")
    assert dataset.validation_labels_kind == "noisy"
    assert dataset.noise_rate is not None
    expected = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(test_images, expected)
    assert test_labels.tolist() == [0, 1, 2, 3] * 5
    assert {image.tobytes() for image in in_memory(dataset.train_images)} < {image.tobytes() for image in expected}


def write_tiny_cifar(cifar_class: type[CIFAR10], folder: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """Twenty random images in every batch file; returns them as [20, 3072]."""
    images = np.random.default_rng(0).integers(0, 256, size=(20, 3072), dtype=np.uint8)
    label_key = "labels" if cifar_class is CIFAR10 else "fine_labels"

    def write(name: str, content: dict[str, object]) -> str:
        path = folder / cifar_class.base_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return hashlib.md5(path.read_bytes()).hexdigest()

    batch = {"data": images, label_key: [0, 1, 2, 3] * 5}
    train_name, test_name = cifar_class.train_list[0][0], cifar_class.test_list[0][0]
    monkeypatch.setattr(cifar_class, "train_list", [[train_name, write(train_name, batch)]])
    monkeypatch.setattr(cifar_class, "test_list", [[test_name, write(test_name, batch)]])
    meta = cifar_class.meta
    names_checksum = write(meta["filename"], {meta["key"]: ["a", "b", "c", "d"]})
    monkeypatch.setattr(cifar_class, "meta", {**meta, "md5": names_checksum})
    return images


def test_cifar_that_cannot_be_downloaded_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "url", "http://localhost:9/cifar-10-python.tar.gz")  # nothing listens there

    with pytest.raises(DatasetError, match=r"set data_dir to the folder that holds cifar-10-batches-py") as refused:
        load_dataset(DataSettings(dataset="cifar10", cache_dir=tmp_path / "cache"))
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "cache") in str(refused.value)
