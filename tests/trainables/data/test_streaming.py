"""Images that stay on disk: the same pixels, folds and training as in memory, without the memory."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.data import Dataset, DatasetError, load_dataset, load_test_split
from trainables.data.streaming import DISK_FROM_BYTES, ImagesOnDisk, in_memory, join_images, select_images
from trainables.inference import final_accuracy
from trainables.settings import DataSettings, TrialSettings
from trainables.training import begin_training

SETTINGS = TrialSettings(epochs=2, batch_size=16, burn_in=0.0, augmentation="crop_flip")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes of forty images of 12×12 pixels each, and ten to test on."""
    root, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 10)):
        for label, name in enumerate(("ant", "bee", "ünïque café")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(60 * label, 60 * label + 120, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture
def settings(pictures: Path, tmp_path: Path) -> Callable[..., DataSettings]:
    """Makes settings of the pictures with a third of the labels wrong."""

    def make(images_in: str, **others: object) -> DataSettings:
        values = {"dataset": "folder", "data_dir": pictures, "cache_dir": tmp_path / "cache", "noise": 0.3}
        return DataSettings.model_validate(values | {"images_in": images_in} | others)

    return make


def curve(dataset: Dataset, epochs: int = 2) -> list[dict[str, float]]:
    trainer = begin_training(SETTINGS, dataset, 1)
    curves = [trainer.train_epoch() for _ in range(epochs)]
    return [{name: value for name, value in metrics.items() if "second" not in name} for metrics in curves]


@pytest.mark.parametrize("noise_kind", ["symmetric_exclusive", "instance_dependent"])
def test_both_paths_give_equal_pixels_labels_and_curves(
    settings: Callable[..., DataSettings], noise_kind: str
) -> None:
    here, there = (load_dataset(settings(place, noise_kind=noise_kind)) for place in ("memory", "disk"))
    assert isinstance(there.train_images, ImagesOnDisk)
    there.prepare()

    for number in range(here.folds):
        mine, theirs = here.fold(number), there.fold(number)
        np.testing.assert_array_equal(in_memory(mine.train_images), in_memory(theirs.train_images))
        np.testing.assert_array_equal(in_memory(mine.validation_images), in_memory(theirs.validation_images))
        np.testing.assert_array_equal(mine.train_labels, theirs.train_labels)
    assert curve(here) == curve(there)
    assert curve(here.all_images()) == curve(there.all_images())


def test_images_that_are_decoded_in_every_epoch_give_equal_curves(settings: Callable[..., DataSettings]) -> None:
    dataset = load_dataset(settings("disk"))
    decoded_each_time, was_prepared = curve(dataset), dataset.is_prepared
    dataset.prepare()
    assert (was_prepared, dataset.is_prepared) == (False, True)
    assert curve(dataset) == decoded_each_time


def test_a_trial_resumed_from_disk_ends_like_one_never_stopped(
    settings: Callable[..., DataSettings], tmp_path: Path
) -> None:
    dataset = load_dataset(settings("disk"))
    dataset.prepare()
    whole = curve(dataset)

    first = begin_training(SETTINGS, dataset, 1)
    first.train_epoch()
    save_checkpoint(first, tmp_path / "checkpoint")
    second = begin_training(SETTINGS, pickle.loads(pickle.dumps(dataset)), 1)
    load_checkpoint(second, tmp_path / "checkpoint")
    last = second.train_epoch()
    assert {name: value for name, value in last.items() if "second" not in name} == whole[-1]


def test_the_test_set_may_stay_on_disk_too(settings: Callable[..., DataSettings], tmp_path: Path) -> None:
    accuracies = []
    for place in ("memory", "disk"):
        data = settings(place)
        images, labels = load_test_split(data)
        dataset = load_dataset(data)
        accuracies.append(final_accuracy(SETTINGS.model_dump(), dataset, None, images, labels, 1))
    assert accuracies[0] == accuracies[1]


def test_a_dataset_on_disk_is_small_to_send_and_knows_when_it_changed(
    settings: Callable[..., DataSettings], pictures: Path, tmp_path: Path
) -> None:
    data = settings("disk")
    dataset = load_dataset(data)
    assert len(pickle.dumps(dataset)) < dataset.images_on_disk[0].nbytes
    assert load_dataset(data).fingerprint == dataset.fingerprint
    assert load_dataset(settings("disk", cache_dir=tmp_path / "elsewhere")).fingerprint == dataset.fingerprint

    moved = tmp_path / "moved"
    shutil.copytree(pictures, moved)
    assert load_dataset(settings("disk", data_dir=moved)).fingerprint == dataset.fingerprint
    Image.new("RGB", (12, 12), (1, 2, 3)).save(moved / "train" / "ant" / "3.png")
    assert load_dataset(settings("disk", data_dir=moved)).fingerprint != dataset.fingerprint


def test_where_the_decoded_images_do_not_fit_they_are_decoded_in_every_epoch_and_that_is_said(
    settings: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    dataset = load_dataset(settings("disk"))
    note = dataset.prepare()
    assert note is not None
    assert "free, and the decoded images need 0.0 GB: they are decoded in every epoch, which is slower" in note
    assert not dataset.is_prepared
    with pytest.raises(DatasetError, match="set cache_dir elsewhere"):
        load_dataset(settings("memory"))


def test_a_damaged_image_is_named_before_anything_is_trained(
    settings: Callable[..., DataSettings], pictures: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(pictures, broken)
    (broken / "train" / "bee" / "7.png").write_bytes(b"\x89PNG, and no more")
    dataset = load_dataset(settings("disk", data_dir=broken))
    with pytest.raises(DatasetError, match=r"cannot decode .*bee/7\.png"):
        dataset.prepare()
    assert not list((tmp_path / "cache").glob("*")), "nothing half decoded is left"


def test_a_decoded_file_that_was_cut_off_is_named(settings: Callable[..., DataSettings], tmp_path: Path) -> None:
    dataset = load_dataset(settings("disk"))
    dataset.prepare()
    (cached,) = (tmp_path / "cache").glob("*.npy")
    os.truncate(cached, 1_000)
    with pytest.raises(DatasetError, match="damaged: delete that file"):
        in_memory(load_dataset(settings("disk")).train_images)


def test_what_a_killed_process_left_is_removed(settings: Callable[..., DataSettings], tmp_path: Path) -> None:
    dataset = load_dataset(settings("disk"))
    source = dataset.images_on_disk[0].sources[0]
    assert not isinstance(source, np.ndarray)
    left = source.cached.with_name(f".{source.cached.name}.123.tmp")
    left.parent.mkdir()
    left.write_bytes(b"half")
    dataset.prepare()
    assert not left.exists()


def test_large_data_stay_on_disk_by_themselves(
    settings: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DISK_FROM_BYTES == 2_000_000_000
    assert load_dataset(settings("auto")).images_on_disk == ()
    monkeypatch.setattr("trainables.data.streaming.DISK_FROM_BYTES", 120 * 12 * 12 * 3)
    assert len(load_dataset(settings("auto")).images_on_disk) == 2


def test_lots_from_memory_and_from_disk_can_be_joined(settings: Callable[..., DataSettings]) -> None:
    on_disk = load_dataset(settings("disk")).train_images
    array = in_memory(load_dataset(settings("memory")).validation_images)
    both = join_images(on_disk, array)
    assert both.shape == (len(on_disk) + len(array), 12, 12, 3)
    np.testing.assert_array_equal(in_memory(both), np.concatenate([in_memory(on_disk), array]))
    index = np.array([len(both) - 1, 0, len(on_disk)])
    np.testing.assert_array_equal(in_memory(select_images(both, index)), in_memory(both)[index])
    np.testing.assert_array_equal(both[-1], array[-1])


def test_only_folders_can_stay_on_disk() -> None:
    with pytest.raises(ValueError, match="images_in is for datasets folder and hf/NAME only, got dataset digits"):
        DataSettings(dataset="digits", images_in="disk")
