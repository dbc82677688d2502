"""Folders of images: ImageFolder's layout and order, any size, decoded once."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from trainables.data import DatasetError, load_dataset, load_test_split
from trainables.data.streaming import in_memory
from trainables.settings import DataSettings


def write_image(path: Path, value: int, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(path)


def write_classes(root: Path, per_class: int = 5, names: tuple[str, ...] = ("ant", "bee")) -> None:
    for label, name in enumerate(names):
        for number in range(per_class):
            write_image(root / name / f"{number}.png", 10 * label + number)


@pytest.fixture
def images_dir(tmp_path: Path) -> Path:
    """A folder with train/ and test/, two classes of five images each."""
    write_classes(tmp_path / "images" / "train")
    write_classes(tmp_path / "images" / "test", per_class=2)
    return tmp_path / "images"


def folder_settings(data_dir: Path, **others: object) -> DataSettings:
    return DataSettings.model_validate(
        {"dataset": "folder", "data_dir": data_dir, "cache_dir": data_dir.parent / "cache", **others}
    )


def test_images_and_labels_are_those_that_imagefolder_reads(images_dir: Path) -> None:
    write_image(images_dir / "train" / "bee" / "nested" / "deep.PNG", 99)
    write_image(images_dir / "train" / "ant" / "10.jpg", 77)
    (images_dir / "train" / "ant" / "notes.txt").write_text("not an image")
    expected = ImageFolder(str(images_dir / "train"))

    dataset = load_dataset(folder_settings(images_dir, clean_validation=images_dir / "test"))

    assert list(dataset.class_names) == expected.classes
    assert dataset.train_labels.tolist() == expected.targets
    for image, (expected_image, _) in zip(in_memory(dataset.train_images), expected, strict=True):
        np.testing.assert_array_equal(image, np.asarray(expected_image))


def test_the_clean_labels_of_a_folder_are_not_known_and_its_validation_labels_are_called_noisy(
    images_dir: Path,
) -> None:
    dataset = load_dataset(folder_settings(images_dir))

    assert dataset.train_clean_labels is None
    assert dataset.validation_labels_kind == "noisy"
    assert dataset.noise_rate is None
    assert dataset.transition_matrix is None
    assert (len(dataset.train_labels), len(dataset.validation_labels)) == (8, 2)


def test_the_test_folder_is_the_test_split(images_dir: Path) -> None:
    images, labels = load_test_split(folder_settings(images_dir))

    assert images.shape == (4, 6, 6, 3)
    assert labels.tolist() == [0, 0, 1, 1]


def test_a_folder_without_train_and_test_trains_on_all_and_has_nothing_to_test_on(images_dir: Path) -> None:
    settings = folder_settings(images_dir / "train")

    dataset = load_dataset(settings)

    assert len(dataset.train_labels) + len(dataset.validation_labels) == 10
    with pytest.raises(DatasetError, match="no images to test on"):
        load_test_split(settings)


def test_a_clean_validation_folder_is_validated_on_and_called_clean(images_dir: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "checked", per_class=3, names=("bee",))  # need not hold every class

    dataset = load_dataset(folder_settings(images_dir, clean_validation=tmp_path / "checked"))

    assert dataset.validation_labels_kind == "clean"
    assert dataset.validation_labels.tolist() == [1, 1, 1]
    assert len(dataset.train_labels) == 10


def test_images_of_any_size_and_mode_are_resized_and_cropped_to_the_image_size(tmp_path: Path) -> None:
    for number, (mode, size) in enumerate([("RGB", (40, 20)), ("L", (8, 8)), ("RGBA", (3, 17)), ("P", (9, 9))]):
        for name in ("ant", "bee"):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, size).save(path)

    dataset = load_dataset(folder_settings(tmp_path / "images", image_size=8))

    assert dataset.train_images.shape[1:] == (8, 8, 3)


def test_resizing_keeps_the_aspect_ratio_and_the_middle(tmp_path: Path) -> None:
    stripes = np.zeros((10, 30, 3), dtype=np.uint8)
    stripes[:, 10:20] = 200  # the middle third
    for name in ("ant", "bee"):
        for number in range(2):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(stripes).save(path)

    dataset = load_dataset(folder_settings(tmp_path / "images", image_size=10, validation_fraction=0.5))

    assert (in_memory(dataset.train_images) == 200).all()


def test_images_of_different_sizes_need_an_image_size(images_dir: Path) -> None:
    write_image(images_dir / "train" / "bee" / "large.png", 0, size=(12, 7))

    with pytest.raises(DatasetError, match=r"image_size must be set.*0\.png is 6×6, .*large\.png is 12×7"):
        load_dataset(folder_settings(images_dir))


def test_a_corrupt_image_is_named(images_dir: Path) -> None:
    damaged = images_dir / "train" / "bee" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:40])

    with pytest.raises(DatasetError, match=r"cannot decode .*bee/3\.png"):
        load_dataset(folder_settings(images_dir))
    assert not list((images_dir.parent / "cache").glob("*.unfinished"))


def test_images_are_decoded_once_and_again_only_when_the_folder_changes(images_dir: Path) -> None:
    settings = folder_settings(images_dir)
    cache = images_dir.parent / "cache"
    first = load_dataset(settings)
    cached = {path: path.stat().st_mtime_ns for path in cache.glob("*.npy")}
    assert len(cached) == 1

    assert load_dataset(settings).fingerprint == first.fingerprint
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*.npy")} == cached

    write_image(images_dir / "train" / "ant" / "0.png", 200)
    assert load_dataset(settings).fingerprint != first.fingerprint
    assert len(list(cache.glob("*.npy"))) == 2


def test_processes_that_start_together_share_one_decoded_array(images_dir: Path) -> None:
    settings = folder_settings(images_dir)

    with multiprocessing.get_context("spawn").Pool(3) as pool:
        datasets = pool.map(load_dataset, [settings] * 3)

    assert len({dataset.fingerprint for dataset in datasets}) == 1
    assert len(list((images_dir.parent / "cache").glob("*.npy"))) == 1


def test_only_the_images_that_are_used_are_decoded(images_dir: Path) -> None:
    dataset = load_dataset(folder_settings(images_dir, max_images=4, validation_fraction=0.5))

    assert (len(dataset.train_labels), len(dataset.validation_labels)) == (2, 2)
    (cached,) = (images_dir.parent / "cache").glob("*.npy")
    assert len(np.load(cached, mmap_mode="r")) == 4


def test_a_data_dir_that_cannot_be_written_to_is_enough(images_dir: Path) -> None:
    for path in [*images_dir.rglob("*"), images_dir]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(load_dataset(folder_settings(images_dir)).train_labels) == 8
    finally:
        for folder, _, _ in os.walk(images_dir):
            Path(folder).chmod(0o755)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "train").rename(root / "training"), r"has test/ but no train/"),
        (lambda root: (root / "test").rename(root / "train" / "test"), r"has train/ but no test/"),
        (lambda root: (root / "train" / "cat").mkdir(), r"class folder .*cat holds no images"),
        (
            lambda root: root.rename(root.parent / "elsewhere"),
            r"data_dir must be the folder .*images, which is no folder",
        ),
    ],
)
def test_a_folder_that_is_laid_out_otherwise_is_refused(images_dir: Path, change: object, message: str) -> None:
    assert callable(change)
    change(images_dir)

    with pytest.raises(DatasetError, match=message):
        load_dataset(folder_settings(images_dir))


def test_a_test_class_that_is_no_training_class_is_refused(images_dir: Path) -> None:
    write_image(images_dir / "test" / "wasp" / "0.png", 0)

    with pytest.raises(DatasetError, match=r"test images have class 'wasp'.*2 training classes ant, bee"):
        load_test_split(folder_settings(images_dir))


def test_a_link_to_a_folder_that_holds_it_is_refused(images_dir: Path) -> None:
    (images_dir / "train" / "ant" / "up").symlink_to("..")
    with pytest.raises(DatasetError, match="ant/up links to a folder that holds it"):
        load_dataset(folder_settings(images_dir))


def test_two_folders_that_link_to_each_other_are_refused(images_dir: Path) -> None:
    (images_dir / "train" / "ant" / "b").symlink_to("../bee")
    (images_dir / "train" / "bee" / "a").symlink_to("../ant")
    with pytest.raises(DatasetError, match="ant/b/a links to a folder that holds it"):
        load_dataset(folder_settings(images_dir))


def test_a_link_to_images_elsewhere_is_followed(images_dir: Path) -> None:
    write_image(images_dir.parent / "more" / "11.png", 70)
    (images_dir / "train" / "ant" / "more").symlink_to(images_dir.parent / "more")
    dataset = load_dataset(folder_settings(images_dir))
    assert len(dataset.train_images) + len(dataset.validation_images) == 11


@pytest.mark.parametrize("target", [None, "nothing.png", "odd.png"])
def test_what_is_named_like_an_image_and_is_no_file_is_refused(images_dir: Path, target: str | None) -> None:
    odd = images_dir / "train" / "ant" / "odd.png"
    odd.symlink_to(target) if target else os.mkfifo(odd)
    with pytest.raises(DatasetError, match=r"odd.png is not a file|cannot read .*odd.png: Too many levels"):
        load_dataset(folder_settings(images_dir))


def test_a_name_that_is_not_utf8_is_refused(images_dir: Path) -> None:
    image = images_dir / "train" / "ant" / "0.png"
    os.rename(image, os.fsencode(image.parent) + b"/\xff.png")
    with pytest.raises(DatasetError, match=r"the name '\\udcff.png' in .*ant' is not UTF-8: rename it"):
        load_dataset(folder_settings(images_dir))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_class_folder_that_may_not_be_read_is_refused(images_dir: Path) -> None:
    (images_dir / "train" / "ant").chmod(0)
    with pytest.raises(DatasetError, match=r"cannot read .*ant: Permission denied"):
        load_dataset(folder_settings(images_dir))


def test_a_folder_of_one_class_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "images", names=("ant",))

    with pytest.raises(DatasetError, match="must have 2 to 10,000 classes, got 1"):
        load_dataset(folder_settings(tmp_path / "images"))


def test_a_cache_that_cannot_be_used_is_named(images_dir: Path) -> None:
    settings = folder_settings(images_dir)
    load_dataset(settings)
    (cached,) = settings.cache_dir.glob("*.npy")
    cached.write_bytes(cached.read_bytes()[:200])

    with pytest.raises(DatasetError, match=rf"{cached.name} are damaged: delete that file"):
        load_dataset(settings)
    with pytest.raises(DatasetError, match=r"cache_dir .* cannot be written to: "):
        load_dataset(settings.model_copy(update={"cache_dir": cached / "below_a_file"}))


def test_a_full_cache_disk_is_refused_before_anything_is_written(
    images_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    with pytest.raises(DatasetError, match=r"cache_dir .* 0\.0 GB free"):
        load_dataset(folder_settings(images_dir))
