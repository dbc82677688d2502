"""Exported weights, moved elsewhere, give the recorded accuracy; every figure has its split and labels."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from trainables.data import load_dataset
from trainables.model_file import ModelFile, read_model, write_model
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE, WRONG_REQUEST
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.export.manifest import PROVENANCE_FILE, write_provenance
from tune_mentormix.export.read import read_exported
from tune_mentormix.export.write import export_best
from tune_mentormix.results.evaluation_log import EVALUATION_LOG, read_evaluations
from tune_mentormix.storage.yaml_files import read_yaml, write_yaml

pytestmark = pytest.mark.slow

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(finished_search: Experiment, tmp_path: Path) -> Path:
    """An export, moved away from where it was written."""
    export_best(finished_search, tmp_path / "written")
    shutil.move(tmp_path / "written", tmp_path / "moved")
    return tmp_path / "moved"


def evaluated(folder: Path, capsys: Output, *options: str) -> dict[str, Any]:
    assert run(["evaluate", str(folder), "--json", *options]) == DONE
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def list_files_anew(folder: Path) -> None:
    """What a forger does who knows of the digests."""
    record = json.loads((folder / PROVENANCE_FILE).read_text())
    write_provenance(folder, {key: record[key] for key in ("model",)})


def test_a_moved_export_gives_the_searchs_accuracy_to_the_last_digit(
    finished_search: Experiment, folder: Path, capsys: Output
) -> None:
    best = finished_search.best()
    assert best is not None
    document = evaluated(folder, capsys)
    assert document["accuracy"]["value"] == document["recorded_accuracy"] == best.val_accuracy
    assert not (folder / EVALUATION_LOG).exists()


def test_a_training_of_it_gives_it_too_and_is_evaluated_like_an_export(
    finished_search: Experiment, folder: Path, tmp_path: Path, capsys: Output
) -> None:
    best = finished_search.best()
    assert best is not None
    assert run(["train", str(folder), "--out", str(tmp_path / "trained")]) == DONE
    capsys.readouterr()
    document = evaluated(tmp_path / "trained", capsys)
    assert document["accuracy"]["value"] == document["recorded_accuracy"] == best.val_accuracy
    first, again = folder / "model.safetensors", tmp_path / "trained" / "model.safetensors"
    assert first.read_bytes() == again.read_bytes()


def test_every_figure_has_its_split_and_labels_and_they_agree(folder: Path, capsys: Output) -> None:
    document = evaluated(folder, capsys)
    figures = [document, document["accuracy"], document["confusion"], document["calibration_error"]]
    assert [figure["metric"] for figure in document["metrics"]] == ["balanced_accuracy", "macro_f1", "top5_accuracy"]
    for figure in [*figures, *document["per_class"], *document["metrics"]]:
        assert (figure["split"], figure["labels"]) == ("validation", "noisy")
    confusion = np.array(document["confusion"]["counts"])
    assert confusion.sum() == document["images"]
    assert confusion.trace() / confusion.sum() == document["accuracy"]["value"]
    assert [one["images"] for one in document["per_class"]] == confusion.sum(axis=1).tolist()


def test_the_printed_tables_name_split_and_labels_too(folder: Path, capsys: Output) -> None:
    assert run(["evaluate", str(folder)]) == DONE
    printed = capsys.readouterr().out
    for figure in (
        "accuracy           0.",
        "macro_f1           0.",
        "top5_accuracy      0.",
        "calibration error  0.",
        "accuracy, ",
        "confusion on ",
    ):
        (line,) = [line for line in printed.splitlines() if figure in line]
        assert "noisy validation labels" in line
    assert "the same to the last digit" in printed


def test_each_use_of_the_test_set_is_warned_of_and_recorded(folder: Path, capsys: Output) -> None:
    assert run(["evaluate", str(folder), "--split", "test", "--json"]) == DONE
    first = capsys.readouterr()
    assert "EVALUATING ON THE TEST SET for the first time" in first.err
    document = json.loads(first.out)
    assert (document["split"], document["labels"]) == ("test", "clean")
    assert document["recorded_accuracy"] is None
    assert run(["evaluate", str(folder), "--split", "test"]) == DONE
    second = capsys.readouterr()
    assert "EVALUATING ON THE TEST SET AGAIN: it was used 1 × before" in second.err
    assert "clean test labels" in second.out
    evaluations = read_evaluations(folder)
    assert [list(evaluation["results"]) for evaluation in evaluations] == [["model"]] * 2
    assert [*evaluations[0]["results"]["model"].values()] == [document["accuracy"]["value"]]


def test_nothing_is_measured_on_a_test_set_if_that_cannot_be_recorded(folder: Path, capsys: Output) -> None:
    (folder / EVALUATION_LOG).mkdir()
    assert run(["evaluate", str(folder), "--split", "test"]) == WRONG_REQUEST
    assert "accuracy" not in capsys.readouterr().out


def test_other_data_than_those_of_the_search_are_refused(folder: Path, capsys: Output) -> None:
    values = read_yaml(folder / "best_config.yaml").values
    values["data"]["data_seed"] = 7
    write_yaml(folder / "best_config.yaml", values)
    list_files_anew(folder)
    assert run(["evaluate", str(folder)]) == WRONG_REQUEST
    assert "fingerprints differ" in capsys.readouterr().err


def test_weights_of_other_classes_are_refused_even_where_the_digests_were_forged(
    folder: Path, capsys: Output
) -> None:
    model = read_model(folder / "model.safetensors")
    classes = tuple(reversed(model.description.class_names))
    changed = model.description.model_copy(update={"class_names": classes})
    write_model(folder / "model.safetensors", ModelFile(changed, model.weights))
    list_files_anew(folder)
    assert run(["evaluate", str(folder)]) == WRONG_REQUEST
    assert "the weights are for other classes than the data have, such as " in capsys.readouterr().err


def test_foreign_weights_are_one_line_even_where_the_digests_were_forged(folder: Path, capsys: Output) -> None:
    save_file(read_model(folder / "model.safetensors").weights, folder / "model.safetensors")
    list_files_anew(folder)
    for command in (["evaluate", str(folder)], ["predict", str(folder), "a.png"]):
        assert run(command) == WRONG_REQUEST
        printed = capsys.readouterr()
        assert "was not written by tune-mentormix" in printed.err
        assert printed.err.count("\n") == 1
        assert printed.out == ""


@pytest.mark.parametrize("command", [["evaluate"], ["predict"], ["train", "--out", "out"]])
def test_a_changed_configuration_is_refused_by_every_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = folder / "best_config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    images = ["a.png"] if command == ["predict"] else []
    assert run([*command, str(folder), *images]) == WRONG_REQUEST
    printed = capsys.readouterr()
    assert "best_config.yaml was changed since it was exported" in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_data_that_were_moved_are_found_where_the_option_says(folder: Path, tmp_path: Path) -> None:
    config = read_exported(folder, {"data_dir": tmp_path / "elsewhere", "labels_file": None})
    assert config.data.data_dir == tmp_path / "elsewhere"
    assert config.data.labels_file is None


def test_images_are_labelled_as_the_network_sees_them(folder: Path, tmp_path: Path, capsys: Output) -> None:
    dataset = load_dataset(read_exported(folder).data)
    paths = []
    for number, image in enumerate(dataset.validation_images[:3]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image[..., 0]).save(paths[-1])
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (40, 30), "white").save(photo)
    assert run(["predict", str(folder), *map(str, paths), str(photo), "--json"]) == DONE
    predictions = json.loads(capsys.readouterr().out)
    assert [prediction["image"] for prediction in predictions] == [*map(str, paths), str(photo)]
    assert all(prediction["label"] in dataset.class_names for prediction in predictions)
    assert all(0.1 <= prediction["probability"] <= 1 for prediction in predictions)
    assert run(["predict", str(folder), str(paths[0])]) == DONE
    assert f"{predictions[0]['probability']:.4f}" in capsys.readouterr().out


def test_a_file_that_is_no_image_is_named(folder: Path, capsys: Output) -> None:
    assert run(["predict", str(folder), str(folder / "model_card.md")]) == WRONG_REQUEST
    printed = capsys.readouterr()
    assert "cannot decode" in printed.err
    assert printed.out == ""
