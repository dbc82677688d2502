"""Label files: every format, matched to the images, and refused where it does not fit."""

from __future__ import annotations

import csv
import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainables.data import Dataset, DatasetError, load_dataset, load_named_dataset, load_test_split
from trainables.data.labels import read_label_file
from trainables.data.streaming import in_memory
from trainables.settings import DataSettings

CLASSES = ("ant", "bee", "cat")
CLEAN = [0, 0, 1, 1, 2, 2]
GIVEN = [0, 1, 1, 2, 2, 0]
NAMES = [f"{CLASSES[label]}/{number}.png" for label in range(3) for number in range(2)]


@pytest.fixture
def images_dir(tmp_path: Path) -> Path:
    """Two images each of three classes; every image has another colour."""
    root = tmp_path / "images"
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(root / name)
    return root


def load_with(labels_file: Path, images_dir: Path, key: str | None = None) -> Dataset:
    return load_dataset(
        DataSettings(
            dataset="folder",
            data_dir=images_dir,
            labels_file=labels_file,
            labels_key=key,
            cache_dir=images_dir.parent / "cache",
            validation_fraction=0.34,
        )
    )


def labels_by_image(dataset: Dataset) -> dict[int, int]:
    """Image number, told from its colour → label as given."""
    images = np.concatenate([dataset.train_images, dataset.validation_images])
    labels = np.concatenate([dataset.train_labels, dataset.validation_labels])
    return {int(image[0, 0, 0]) // 10: int(label) for image, label in zip(images, labels, strict=True)}


def write_npy(path: Path) -> None:
    np.save(path, np.asarray(GIVEN))


def write_npz(path: Path) -> None:
    np.savez(path, only=np.asarray(GIVEN, dtype=np.uint8))


def write_words(path: Path) -> None:
    np.save(path, np.asarray([CLASSES[label] for label in GIVEN]))


def write_torch(path: Path) -> None:
    torch.save({"worse_label": np.asarray(GIVEN)}, path)


def write_torch_tensor(path: Path) -> None:
    torch.save({"worse_label": torch.tensor(GIVEN)}, path)


def write_csv(path: Path) -> None:
    path.write_text("label\n" + "".join(f"{label}\n" for label in GIVEN))


def write_csv_with_names(path: Path) -> None:
    rows = [f"{name},{CLASSES[label]},5\r\n" for name, label in zip(NAMES, GIVEN, strict=True)]
    path.write_text("\ufeffimage,label,votes\r\n" + "".join(reversed(rows)))


def write_split(path: Path) -> None:
    lines = [f"{name} {label}\n" for name, label in zip(NAMES, GIVEN, strict=True)]
    path.write_text("".join(reversed(lines)) + "\n")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("labels.npy", write_npy),
        ("labels.npz", write_npz),
        ("words.npy", write_words),
        ("labels.pt", write_torch),
        ("tensor.pt", write_torch_tensor),
        ("labels.csv", write_csv),
        ("named.csv", write_csv_with_names),
        ("red_noise_nl_0.4", write_split),
        ("split.txt", write_split),
    ],
)
def test_every_format_gives_each_image_its_label(name: str, write: object, images_dir: Path) -> None:
    assert callable(write)
    write(images_dir.parent / name)

    dataset = load_with(images_dir.parent / name, images_dir)

    assert labels_by_image(dataset) == dict(enumerate(GIVEN))
    assert dataset.class_names == CLASSES
    assert dataset.validation_labels_kind == "noisy"
    assert dataset.train_clean_labels is not None  # the folders' own classes


def test_the_array_or_column_is_chosen_by_its_key(images_dir: Path) -> None:
    folder = images_dir.parent
    np.savez(folder / "many.npz", first=np.zeros(6, int), second=np.asarray(GIVEN))
    (folder / "many.csv").write_text("first,second\n" + "".join(f"0,{label}\n" for label in GIVEN))

    for name in ("many.npz", "many.csv"):
        assert labels_by_image(load_with(folder / name, images_dir, "second")) == dict(enumerate(GIVEN))
    with pytest.raises(DatasetError, match=r"labels_key must be one of first, second for .*npz, got None"):
        load_with(folder / "many.npz", images_dir)
    with pytest.raises(DatasetError, match=r"labels_key must be one of first, second for .*csv, got third"):
        load_with(folder / "many.csv", images_dir, "third")


def test_a_split_file_may_name_some_of_the_images_and_only_those_are_used(images_dir: Path) -> None:
    path = images_dir.parent / "some"
    path.write_text("cat/1.png 0\nant/0.png 1\nbee/0.png 2\nbee/1.png 2\n")

    assert labels_by_image(load_with(path, images_dir)) == {0: 1, 2: 2, 3: 2, 5: 0}


def test_images_without_class_folders_take_their_classes_from_the_split_file(tmp_path: Path) -> None:
    root = tmp_path / "all_images"
    root.mkdir()
    for number in range(6):
        Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(root / f"{number}.jpg", quality=100)
    (tmp_path / "split").write_text("".join(f"{number}.jpg {label}\n" for number, label in enumerate(GIVEN)))

    dataset = load_with(tmp_path / "split", root)

    assert labels_by_image(dataset) == dict(enumerate(GIVEN))
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.train_clean_labels is None


def test_controlled_noisy_web_labels_are_read_as_the_guide_lays_them_out(tmp_path: Path) -> None:
    """All images in one folder, a split file, and validation images in folders named by class number, 10 before 2."""
    root = tmp_path / "images"
    for number in range(11):
        for path in (root / "train" / f"{number}.jpg", root / "test" / str(number) / "v.jpg"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (20 * number, 0, 0)).save(path, quality=100)
    (tmp_path / "red_noise_nl_0.4").write_text("".join(f"{number}.jpg {number}\n" for number in range(11)))
    settings = DataSettings(
        dataset="folder", data_dir=root, labels_file=tmp_path / "red_noise_nl_0.4", cache_dir=tmp_path / "cache"
    )

    images, labels = load_test_split(settings)

    assert (in_memory(images)[:, 0, 0, 0] / 20).round().tolist() == labels.tolist()
    assert load_dataset(settings).class_names == tuple(str(number) for number in range(11))


def test_a_class_number_that_is_also_a_folders_name_means_that_folder(tmp_path: Path) -> None:
    """Folders 0 … 10 sort as 0, 1, 10, 2, …; label 10 of a split file is the folder 10, not the eleventh."""
    root = tmp_path / "images"
    for number in range(11):
        (root / str(number)).mkdir(parents=True)
        Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(root / str(number) / "a.png")
    (tmp_path / "split").write_text("".join(f"{number}/a.png {number}\n" for number in range(11)))

    dataset = load_with(tmp_path / "split", root)

    assert dataset.noise_rate == 0
    assert dataset.class_names[2] == "10"


words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)


@given(class_names=st.lists(words, min_size=2, max_size=6, unique=True), data=st.data())
def test_class_names_in_a_csv_are_read_back_whatever_they_are(class_names: list[str], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, len(class_names) - 1), min_size=1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["label"], *([class_names[label]] for label in labels)])

        assert read_label_file(path, None, tuple(class_names)).labels.tolist() == labels


@given(labels=st.lists(st.integers(0, 255), min_size=1), dtype=st.sampled_from(["uint8", "int32", "int64"]))
def test_integers_of_any_width_are_read_back_from_every_kind_of_array_file(labels: list[int], dtype: str) -> None:
    array = np.asarray(labels, dtype=dtype)
    class_names = tuple(str(label) for label in range(256))
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "labels.npy", array)
        np.savez(Path(folder) / "labels.npz", human=array)
        torch.save({"human": array}, Path(folder) / "labels.pt")

        for name in ("labels.npy", "labels.npz", "labels.pt"):
            assert read_label_file(Path(folder) / name, None, class_names).labels.tolist() == labels


class ExecutesWhenUnpickled:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["labels.pt", "labels.npy", "labels.npz"])
def test_a_file_with_a_pickle_in_it_is_refused_and_not_executed(name: str, images_dir: Path) -> None:
    path, executed = images_dir.parent / name, images_dir.parent / "executed"
    payload = ExecutesWhenUnpickled(executed)
    if name.endswith(".pt"):
        torch.save({"worse_label": payload}, path)
    elif name.endswith(".npy"):
        np.save(path, np.array([payload], dtype=object), allow_pickle=True)
    else:
        np.savez(path, labels=np.array([payload], dtype=object))

    reason = "it holds Python objects .a pickle., which are not read" if name.endswith(".npz") else ""
    with pytest.raises(DatasetError, match=f"cannot read .*{reason}"):
        load_with(path, images_dir)
    assert not executed.exists()


def test_a_pt_file_written_with_an_older_numpy_is_read(images_dir: Path) -> None:
    """CIFAR-10N's own file is from 2021: NumPy's functions had another path then."""
    path = images_dir.parent / "CIFAR-10_human.pt"
    new_file = io.BytesIO()
    torch.save({"worse_label": np.asarray(GIVEN), "clean_label": np.asarray(CLEAN)}, new_file)
    with zipfile.ZipFile(new_file) as new, zipfile.ZipFile(path, "w") as old:
        for entry in new.namelist():
            old.writestr(entry, new.read(entry).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy.core.multiarray" in path.read_bytes()

    assert labels_by_image(load_with(path, images_dir, "worse_label")) == dict(enumerate(GIVEN))


def test_a_label_file_for_another_order_of_images_is_refused(images_dir: Path) -> None:
    path = images_dir.parent / "labels.npz"
    np.savez(path, worse_label=np.asarray(GIVEN), clean_label=np.asarray(CLEAN[::-1]))

    with pytest.raises(DatasetError, match="other images or another order"):
        load_with(path, images_dir, "worse_label")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.csv", b"label\n0\n1\n", r"short.csv has 2 labels for 6 images"),
        ("range.csv", b"label\n0\n1\n2\n0\n1\n3\n", r"label 3 at position 5, but there are 3 classes, 0 to 2"),
        (
            "word.csv",
            b"label\nant\nbee\nwasp\nant\nant\nant\n",
            r"label 'wasp', which is none of the 3 classes ant, ",
        ),
        ("column.csv", b"klass\n0\n", r"labels_key must be one of klass for .*column.csv, got label"),
        ("ragged.csv", b"image,label\nant/0.png\n", r"line 2 of .*ragged.csv must have 2 fields, got 1"),
        ("wide.csv", b"image,label\nant/0.png,0,1\n", r"line 2 of .*wide.csv must have 2 fields, got 3"),
        ("empty.csv", b"label\n", r"empty.csv holds no labels"),
        ("twice.csv", b"image,label\nant/0.png,0\nant/0.png,1\n", r"names image 'ant/0\.png' twice: leave one line"),
        (
            "absent",
            b"ant/0.png 0\nwasp/0.png 1\n",
            r"names 1 images that the dataset does not have, first 'wasp/0.png'",
        ),
        ("one_field", b"ant/0.png\n", r"line 1 of .*one_field must be 'image class', got 'ant/0.png'"),
        ("binary", b"\xff\xfe\x00", r"not a text file, nor .npy, .npz, .pt or .csv"),
        ("text.npy", b"hello", r"cannot read .*text.npy"),
        ("text.npz", b"hello", r"cannot read .*text.npz"),
        ("text.pt", b"hello", r"cannot read labels_file .*text.pt"),
        ("pickle.pt", pickle.dumps({"worse_label": [0]}, protocol=2), r"cannot read labels_file .*pickle.pt"),
    ],
)
def test_a_label_file_that_does_not_fit_is_refused(name: str, content: bytes, message: str, images_dir: Path) -> None:
    path = images_dir.parent / name
    path.write_bytes(content)

    with pytest.raises(DatasetError, match=message) as refused:
        load_with(path, images_dir)
    assert "\n" not in str(refused.value)


def test_floats_scalars_and_lists_are_no_labels(images_dir: Path) -> None:
    folder = images_dir.parent
    np.save(folder / "floats.npy", np.asarray(GIVEN, dtype=float))
    torch.save([1, 2, 3], folder / "list.pt")
    torch.save({"worse_label": 3}, folder / "scalar.pt")

    for name, message in (
        ("floats.npy", r"floats.npy must be integers of shape \[N\], got float64"),
        ("list.pt", r"list.pt must hold a dictionary of arrays, got list"),
        ("scalar.pt", r"worse_label in .*scalar.pt must be integers of shape \[N\]"),
        ("nowhere.npy", r"labels_file .*nowhere.npy does not exist"),
    ):
        with pytest.raises(DatasetError, match=message):
            load_with(folder / name, images_dir)


def test_images_that_are_no_files_are_named_by_their_position(tmp_path: Path) -> None:
    own = load_dataset(DataSettings(validation_fraction=0.5))
    positions = [*range(0, 1000, 5), 1436]
    rows = "".join(f"{position},{position % 10}\n" for position in reversed(positions))
    (tmp_path / "labels.csv").write_text(f"image,label\n{rows}")

    settings = DataSettings(labels_file=tmp_path / "labels.csv", validation_fraction=0.5)
    dataset, names = load_named_dataset(settings)

    assert sorted(map(int, names.train + names.validation)) == positions
    given = [*dataset.train_labels, *dataset.validation_given_labels]
    assert [int(name) % 10 for name in names.train + names.validation] == given
    assert dataset.train_clean_labels is not None
    images = {image.tobytes() for image in (*in_memory(own.train_images), *in_memory(own.validation_images))}
    assert all(image.tobytes() in images for image in in_memory(dataset.train_images))


def test_a_position_that_no_image_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\n1438,0\n")

    with pytest.raises(DatasetError, match=r"first '1438' \(its own are named like '0'\)"):
        load_dataset(DataSettings(dataset="digits", labels_file=tmp_path / "labels.csv"))


AWKWARD = (" two spaces  .png", 'a "quote", a comma.png', "=SUM(A1).png", "línea\nnueva.png", "wagen\rücklauf.png")


def test_names_with_spaces_quotes_and_line_breaks_are_matched_as_they_are(tmp_path: Path) -> None:
    folders = {" ant ": AWKWARD, "bee\n,": AWKWARD}
    for folder, files in folders.items():
        (tmp_path / "images" / folder).mkdir(parents=True)
        for number, name in enumerate(files):
            Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(tmp_path / "images" / folder / name)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["image", "label"])
        writer.writerows([f"{folder}/{name}", folder] for folder, files in folders.items() for name in files)

    dataset = load_with(tmp_path / "labels.csv", tmp_path / "images")

    assert dataset.noise_rate == 0
    assert len(dataset.train_labels) + len(dataset.validation_labels) == 2 * len(AWKWARD)


def test_spaces_around_a_name_or_label_that_no_image_and_no_class_has_are_ignored(images_dir: Path) -> None:
    rows = "".join(f"{name} , {CLASSES[label]}\n" for name, label in zip(NAMES, GIVEN, strict=True))
    (images_dir.parent / "labels.csv").write_text(f"image,label\n{rows}")

    dataset = load_with(images_dir.parent / "labels.csv", images_dir)

    assert labels_by_image(dataset) == dict(enumerate(GIVEN))


def test_labels_that_a_file_corrects_are_not_taken_for_the_true_ones(images_dir: Path) -> None:
    rows = "".join(f"{name},{label},x\n" for name, label in zip(NAMES, GIVEN, strict=True))
    path = images_dir.parent / "labels.csv"
    path.write_text(f"image,label,other\n{rows}")
    assert load_with(path, images_dir).noise_rate is not None

    path.write_text(f"image,label,given\n{rows}")
    dataset = load_with(path, images_dir)

    assert dataset.train_clean_labels is None
    assert labels_by_image(dataset) == dict(enumerate(GIVEN))
