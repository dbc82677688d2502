"""A model file gives back what was written, names its purpose, and refuses what is not one."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from trainables.errors import ModelFileError
from trainables.inference import load_classifier
from trainables.model_file import DESCRIPTION_KEY, ModelDescription, ModelFile, read_model, write_model
from trainables.models import build_network
from trainables.settings import TrialSettings

DESCRIPTION = ModelDescription(
    network="small_cnn", class_names=("0", "1", "2"), input_shape=(8, 8, 1), precision="auto", epoch=3
)


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return ModelFile(DESCRIPTION, build_network(TrialSettings(), 3, 1).state_dict())


@pytest.fixture
def path(model: ModelFile, tmp_path: Path) -> Path:
    write_model(tmp_path / "model.safetensors", model)
    return tmp_path / "model.safetensors"


def test_a_model_file_gives_back_every_weight_and_its_description(model: ModelFile, path: Path) -> None:
    read = read_model(path)

    assert read.description == DESCRIPTION
    assert read.weights.keys() == model.weights.keys()
    assert all(torch.equal(weight, model.weights[name]) for name, weight in read.weights.items())
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]  # no temporary file is left


def test_other_programs_find_what_the_weights_are_for_in_the_files_text(path: Path) -> None:
    with safetensors.safe_open(path, framework="pt") as file:
        text = json.loads(file.metadata()["tune_mentormix"])

    assert text["class_names"] == ["0", "1", "2"]
    assert text["input_shape"] == [8, 8, 1]
    assert text["network"] == "small_cnn"


def test_equal_models_give_equal_files(model: ModelFile, path: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "again", model)

    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused_in_one_line(path: Path, fraction: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])

    with pytest.raises(ModelFileError, match="is damaged, or no safetensors file") as error:
        read_model(path)
    assert "\n" not in str(error.value)


def test_a_pickle_is_refused_and_not_executed(path: Path) -> None:
    path.write_bytes(pickle.dumps(print))

    with pytest.raises(ModelFileError, match="is damaged, or no safetensors file"):
        read_model(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"cannot read .*nowhere"):
        read_model(tmp_path / "nowhere")


def test_the_safetensors_of_another_program_are_refused(path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)

    with pytest.raises(ModelFileError, match="was not written by tune-mentormix"):
        read_model(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "has format 2, this version reads up to 1: upgrade"),
        ({"network": "resnt32"}, "does not describe its model: network: .*unknown name 'resnt32'"),
        ({"class_names": ["one"]}, "does not describe its model: class_names"),
        ({"input_shape": [8, 0, 1]}, "does not describe its model: input_shape.1"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    model: ModelFile, path: Path, change: dict[str, object], complaint: str
) -> None:
    text = json.dumps(DESCRIPTION.model_dump(mode="json") | change)
    safetensors.torch.save_file(model.weights, path, metadata={DESCRIPTION_KEY: text})

    with pytest.raises(ModelFileError, match=complaint):
        read_model(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"network": "resnet32"}, "the weights are not those of the network: .* is missing"),
        ({"class_names": ("a", "b")}, r"is float32\[3.*\], not float32\[2"),
        ({"input_shape": (8, 8, 3)}, "the weights are not those of the network"),
        ({"network": "torchvision/resnet0"}, "network torchvision/resnet0 is none of torchvision's"),
    ],
)
def test_weights_that_do_not_fit_their_network_are_refused(
    model: ModelFile, path: Path, change: dict[str, object], complaint: str
) -> None:
    write_model(path, ModelFile(DESCRIPTION.model_copy(update=change), model.weights))

    with pytest.raises(ModelFileError, match=complaint):
        load_classifier(path, 1)


def test_weights_that_are_no_numbers_are_refused(model: ModelFile, path: Path) -> None:
    broken = {name: weight.clone() for name, weight in model.weights.items()}
    next(iter(broken.values())).fill_(float("nan"))
    write_model(path, ModelFile(DESCRIPTION, broken))

    with pytest.raises(ModelFileError, match="holds values that are not finite"):
        load_classifier(path, 1)
