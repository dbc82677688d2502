"""Parquet, WebDataset and Arrow files by Hugging Face's `datasets`: the images and labels that were written."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trainables.data import DatasetError, load_dataset, load_named_dataset, load_test_split
from trainables.data.streaming import ImagesOnDisk, in_memory
from trainables.settings import DataSettings, TrialSettings
from trainables.training import begin_training

CLASSES = ("ant", "bee", "wasp café")
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})


def picture(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 255, (10, 10, 3), dtype=np.uint8)


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def table(numbers: range, features: datasets.Features = FEATURES, **columns: Any) -> datasets.Dataset:
    rows = [{"image": {"bytes": encoded(picture(n)), "path": None}, "label": n % 3} for n in numbers]
    for name, values in columns.items():
        rows = [row | {name: value} for row, value in zip(rows, values, strict=True)]
    return datasets.Dataset.from_list(rows, features=features)


@pytest.fixture(scope="module", autouse=True)
def _without_bars() -> None:
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 60 images to train on and 9 to test on, as parquet, WebDataset and Arrow files."""
    root = tmp_path_factory.mktemp("tables")
    train, test = table(range(60)), table(range(100, 109))
    places = {name: root / name for name in ("parquet", "webdataset", "arrow")}
    for name in ("parquet", "webdataset"):
        places[name].mkdir()
    train.to_parquet(places["parquet"] / "train-00000.parquet")
    test.to_parquet(places["parquet"] / "test-00000.parquet")
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(places["arrow"]))
    for split, numbers in (("train", range(60)), ("test", range(100, 109))):
        with tarfile.open(places["webdataset"] / f"{split}-000.tar", "w") as tar:
            for number in numbers:
                for ending, content in (("png", encoded(picture(number))), ("cls", str(number % 3).encode())):
                    member = tarfile.TarInfo(f"{number:05d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return places


def settings(kind: str, folder: Path, cache: Path, **others: object) -> DataSettings:
    values = {"dataset": f"hf/{kind}", "data_dir": folder, "cache_dir": cache, "noise": 0.3}
    return DataSettings.model_validate(values | others)


@pytest.mark.parametrize("kind", ["parquet", "webdataset", "arrow"])
@pytest.mark.parametrize("images_in", ["memory", "disk"])
def test_every_kind_of_file_gives_the_images_and_labels_that_were_written(
    folders: dict[str, Path], tmp_path: Path, kind: str, images_in: str
) -> None:
    data = settings(kind, folders[kind], tmp_path, images_in=images_in)
    dataset, names = load_named_dataset(data)
    assert dataset.class_names == (("0", "1", "2") if kind == "webdataset" else CLASSES)
    assert isinstance(dataset.train_images, ImagesOnDisk) == (images_in == "disk")
    dataset.prepare()
    seen = [*names.train, *names.validation]
    assert sorted(map(int, seen)) == list(range(60))
    images = np.concatenate([in_memory(dataset.train_images), in_memory(dataset.validation_images)])
    np.testing.assert_array_equal(images, np.stack([picture(int(name)) for name in seen]))

    test_images, test_labels = load_test_split(data)
    np.testing.assert_array_equal(in_memory(test_images), np.stack([picture(n) for n in range(100, 109)]))
    assert test_labels.tolist() == [number % 3 for number in range(100, 109)]


def test_a_dataset_that_was_sent_to_another_process_reads_its_table_there(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    dataset = load_dataset(settings("parquet", folders["parquet"], tmp_path, images_in="disk"))
    sent = pickle.loads(pickle.dumps(dataset))
    assert not sent.is_prepared
    np.testing.assert_array_equal(in_memory(sent.train_images), in_memory(dataset.train_images))
    trainer = begin_training(TrialSettings(epochs=1, batch_size=16), sent, 1)
    assert trainer.train_epoch()["epoch"] == 1


def test_labels_may_be_texts_and_columns_may_be_named(tmp_path: Path) -> None:
    features = datasets.Features({**FEATURES, "kind": datasets.Value("string"), "mask": datasets.Image()})
    mask = {"bytes": encoded(picture(0)), "path": None}
    whole = table(range(30), features, kind=["no" if n % 2 else "yes" for n in range(30)], mask=[mask] * 30)
    whole.save_to_disk(str(tmp_path / "saved"))
    data = settings("arrow", tmp_path / "saved", tmp_path, image_column="image", label_column="kind", noise=0.0)

    dataset = load_dataset(data)

    assert dataset.class_names == ("no", "yes")
    assert sorted(np.concatenate([dataset.train_labels, dataset.validation_labels]).tolist()) == [0] * 15 + [1] * 15
    with pytest.raises(DatasetError, match="several columns of images, image, mask: set image_column to one of"):
        load_dataset(settings("arrow", tmp_path / "saved", tmp_path))


@pytest.mark.parametrize(
    ("others", "complaint"),
    [
        ({"label_column": "labels"}, "has no column 'labels'; it has image, label"),
        ({"image_column": "label"}, "column 'label' of dataset hf/parquet .* holds no images"),
        ({"label_column": "image"}, "must hold class names or whole numbers from 0"),
        ({"dataset": "hf/arrow"}, "cannot be loaded: .*"),
        ({"dataset": "hf/webdataset"}, "cannot be loaded: .*"),
        ({"data_dir": Path("/nowhere")}, "data_dir must be the folder of the data, got /nowhere"),
    ],
)
def test_what_does_not_fit_is_one_line(
    folders: dict[str, Path], tmp_path: Path, others: dict[str, object], complaint: str
) -> None:
    data = settings("parquet", folders["parquet"], tmp_path, **others)
    with pytest.raises(DatasetError, match=complaint) as raised:
        load_dataset(data)
    assert "\n" not in str(raised.value)


def test_a_row_whose_image_is_damaged_or_missing_is_named(tmp_path: Path) -> None:
    pictures = [{"bytes": encoded(picture(number)), "path": None} for number in range(12)]
    rows: list[dict[str, Any]] = [{"image": each, "label": n % 3} for n, each in enumerate(pictures)]
    rows[4]["image"] = {"bytes": b"no image", "path": None}
    datasets.Dataset.from_list(rows, features=FEATURES).save_to_disk(str(tmp_path / "damaged"))
    with pytest.raises(DatasetError, match=r"cannot decode row 4 of dataset hf/arrow in .*damaged"):
        load_dataset(settings("arrow", tmp_path / "damaged", tmp_path))
    rows[4]["image"] = None
    datasets.Dataset.from_list(rows, features=FEATURES).save_to_disk(str(tmp_path / "missing"))
    with pytest.raises(DatasetError, match=r"row 4 of dataset hf/arrow in .*missing is missing"):
        load_dataset(settings("arrow", tmp_path / "missing", tmp_path))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"dataset": "hf/parquet"}, "data_dir must be set for dataset hf/parquet"),
        ({"dataset": "hf/owner/name", "data_dir": "x"}, "data_dir is for files"),
        ({"dataset": "hf/a/b/c"}, "pattern|match"),
        ({"dataset": "hf/../name"}, "pattern|match"),
        ({"dataset": "digits", "image_column": "x"}, "image_column is for datasets hf/NAME only, got dataset digits"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        DataSettings.model_validate(values)


def test_a_dataset_of_the_hub_that_cannot_be_reached_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    data = DataSettings(dataset="hf/owner/name", cache_dir=tmp_path)
    with pytest.raises(DatasetError, match="without network, put its parquet files into a folder and use hf/parquet"):
        load_dataset(data)
