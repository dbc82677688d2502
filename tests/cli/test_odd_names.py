"""From a search to its labels, a corrected file, the next search and verified labels, whatever names hold."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.searches import SearchRunner, folder_of
from trainables.data import load_named_dataset
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE
from tune_mentormix.experiment.experiment import Experiment

pytestmark = pytest.mark.slow
ODD = " <b>& \"'é, 日本"
CLASSES = (f"=1+1{ODD}", f"ant{ODD}", "bée")
IMAGES = 30  # of each class
WRONG = 3  # of each class lie in the folder of the next one

Output = pytest.CaptureFixture[str]


def image_name(true: int, number: int) -> str:
    """The path of an image, in the folder of the next class if it is one of the wrong ones."""
    label = (true + 1) % len(CLASSES) if number < WRONG else true
    return f"{CLASSES[label]}/=img {true}-{number:02} {ODD}.png"


def all_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that a network tells apart by their colour, a tenth of them with a wrong label."""
    folder = tmp_path_factory.mktemp("data") / f"images{ODD.replace('/', '')}"
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for true in range(len(CLASSES)):
        for number in range(IMAGES):
            pixels = generator.integers(0, 60, (8, 8, 3)).astype(np.uint8)
            pixels[..., true] += 180
            Image.fromarray(pixels).save(folder / image_name(true, number))
    return folder


@pytest.fixture(scope="module")
def search(run_search: SearchRunner, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return find(run_search, data_dir, tmp_path_factory.mktemp("storage"), "first")


def find(run_search: SearchRunner, data_dir: Path, storage: Path, name: str, **options: object) -> Experiment:
    """Searches on these images."""
    own = {"dataset": "folder", "data_dir": data_dir, "cache_dir": storage.parent / "cache", "noise": 0.0}
    more = {"validation_fraction": 0.4, "max_images": None, "trial": {"batch_size": 16}, "num_samples": 3}
    return run_search(storage, name=name, **(own | more | options))


@pytest.mark.cluster
def test_names_go_through_the_whole_loop_unchanged(
    search: Experiment, run_search: SearchRunner, data_dir: Path, tmp_path: Path, capsys: Output
) -> None:
    storage = folder_of(search).parent
    before = all_files(storage) | all_files(data_dir)
    place, out = ["--storage", str(storage)], tmp_path / "out"
    files = {"--out": "labels.csv", "--write": "corrected.csv", "--pred-probs": "p.npy", "--page": "labels.html"}
    words = [word for option, file in files.items() for word in (option, str(out / file))]

    assert run(["labels", "first", *place, *words, "--worst", "9"]) == DONE

    assert "names or classes that a spreadsheet" not in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(files.values())
    assert all_files(storage) | all_files(data_dir) == before
    names = {image_name(true, number) for true in range(len(CLASSES)) for number in range(IMAGES)}
    rows = read(out / "labels.csv")
    assert {row["image"] for row in rows} == names
    assert all(row["image"].startswith(f"{row['given']}/") for row in rows)
    assert {row["suggested"] for row in rows} <= set(CLASSES)
    page = (out / "labels.html").read_text(encoding="utf-8")
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp; &#34;&#39;é, 日本" in page

    second = find(run_search, data_dir, storage, "second", labels_file=out / "corrected.csv")

    dataset, trained_on = load_named_dataset(second.settings.data_settings())
    assert dataset.class_names == tuple(sorted(CLASSES))
    labels = dict(
        zip(
            trained_on.train + trained_on.validation,
            (dataset.class_names[label] for label in [*dataset.train_labels, *dataset.validation_given_labels]),
            strict=True,
        )
    )
    assert labels == {row["image"]: row["label"] for row in read(out / "corrected.csv")}
    before = all_files(storage) | all_files(data_dir)

    assert run(["verify", "second", *place, "--out", str(tmp_path / "verify"), "--images", "25"]) == DONE

    assert sorted(path.name for path in (tmp_path / "verify").iterdir()) == ["verify.csv", "verify.html"]
    added = (all_files(storage) | all_files(data_dir)).keys() - before.keys()
    assert {path.parent for path in added} == {storage / "second" / "verification"}
    page = (tmp_path / "verify" / "verify.html").read_text(encoding="utf-8")
    assert "<b>&" not in page
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.S)[0])
    assert set(data["classes"]) == set(CLASSES)
    asked = read(tmp_path / "verify" / "verify.csv")
    assert [image["image"] for image in data["images"]] == [row["image"] for row in asked]
    assert {row["image"]: row["given"] for row in asked}.items() <= labels.items()


def test_verified_labels_of_odd_names_are_validated_on(
    search: Experiment, run_search: SearchRunner, data_dir: Path, tmp_path: Path, capsys: Output
) -> None:
    storage = folder_of(search).parent
    assert run(["verify", "first", "--storage", str(storage), "--out", str(tmp_path), "--images", "30"]) == DONE
    rows = read(tmp_path / "verify.csv")
    with (tmp_path / "verify.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        true = [CLASSES[int(re.findall(r"=img (\d)-", row["image"])[0])] for row in rows]
        writer.writerows(row | {"answer": answer} for row, answer in zip(rows, true, strict=True))

    found = find(run_search, data_dir, storage, "third", verified=tmp_path / "verify.csv")

    facts, best = found.provenance.dataset, found.best()
    assert (facts.validation_images, facts.train_images, facts.validation_labels) == (30, 60, "clean")
    assert best is not None
    assert best.noisy_val_accuracy is not None
    capsys.readouterr()
    assert run(["status", "third", "--storage", str(storage)]) == DONE
    printed = " ".join(capsys.readouterr().out.split())
    assert "accuracy, clean validation labels" in printed
    assert "On the noisy labels of the same validation images: best found" in printed
    assert run(["status", "third", "--storage", str(storage), "--json"]) == DONE
    status = json.loads(capsys.readouterr().out)
    assert status["labels"] == "clean"
    assert status["best"]["noisy_val_accuracy"] == best.noisy_val_accuracy
