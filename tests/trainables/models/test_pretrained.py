"""Weights from a file begin a network; what does not fit, or cannot be read, is one line that names the file."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from trainables.errors import NetworkError
from trainables.model_file import ModelDescription, ModelFile, write_model
from trainables.models import build_network, check_network
from trainables.settings import TrialSettings

HEAD = {
    "small_cnn": "14",
    "torchvision/squeezenet1_1": "classifier.classifier.1",
    "timm/test_resnet": "classifier.fc",
}


def begun_at(path: Path, network: str = "small_cnn", num_classes: int = 7) -> dict[str, Tensor]:
    settings = TrialSettings(network=network, weights=str(path))
    return build_network(settings, num_classes, in_channels=3).state_dict()


def saved(path: Path, network: str = "small_cnn", num_classes: int = 7) -> dict[str, Tensor]:
    """Writes random weights of a network, and returns them."""
    weights = build_network(TrialSettings(network=network), num_classes, in_channels=3).state_dict()
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    return weights


@pytest.mark.parametrize("network", HEAD)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_all_weights_are_taken_from_a_file_for_the_same_classes(network: str, name: str, tmp_path: Path) -> None:
    weights = saved(tmp_path / name, network)

    begun = begun_at(tmp_path / name, network)

    assert begun.keys() == weights.keys()
    assert all(torch.equal(begun[key], weight) for key, weight in weights.items())


@pytest.mark.parametrize("network", HEAD)
def test_a_head_for_other_classes_is_left_out_and_said(
    network: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.safetensors"
    weights = saved(path, network, num_classes=10)

    with caplog.at_level(logging.WARNING):
        begun = begun_at(path, network)

    assert [record.getMessage() for record in caplog.records] == [
        f"weights {path} have no head for these classes: a new one is trained"
    ]
    new = {key for key, weight in weights.items() if begun[key].shape != weight.shape}
    assert {key.rpartition(".")[0] for key in new} == {HEAD[network]}
    assert all(torch.equal(begun[key], weights[key]) for key in weights.keys() - new)


def test_files_in_the_library_s_own_names_are_taken(tmp_path: Path) -> None:
    theirs: nn.Module = models.squeezenet1_1()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")

    begun = begun_at(tmp_path / "w.pth", "torchvision/squeezenet1_1", num_classes=1000)

    assert all(torch.equal(begun[f"classifier.{key}"], weight) for key, weight in theirs.state_dict().items())


def test_the_model_of_an_export_is_such_a_file(tmp_path: Path) -> None:
    network = build_network(TrialSettings(), 3, in_channels=3)
    names = ("a", "b", "c")
    description = ModelDescription(
        network="small_cnn", class_names=names, input_shape=(8, 8, 3), precision="auto", epoch=1
    )
    write_model(tmp_path / "model.safetensors", ModelFile(description, network.state_dict()))

    begun = begun_at(tmp_path / "model.safetensors")

    assert torch.equal(begun["0.weight"], network.state_dict()["0.weight"])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    weights = saved(path)
    changed = {
        r"0\.weight is missing": {key: weight for key, weight in weights.items() if key != "0.weight"},
        "extra is none of its": weights | {"extra": torch.zeros(1)},
        r"0\.weight has the shape \[1\], not \[32, 3, 3, 3\]": weights | {"0.weight": torch.zeros(1)},
    }
    for problem, content in changed.items():
        torch.save(content, path)
        with pytest.raises(NetworkError, match=f"^weights {path} are not those of network small_cnn: {problem}$"):
            begun_at(path)


def test_a_file_that_holds_no_weights_is_refused_in_one_line_and_not_executed(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    refused = r"^weights .* (cannot be read: [\w ]+|are damaged, or neither .*|are no tensors by name: write .*)$"
    missing, harmful, empty = tmp_path / "missing.pth", tmp_path / "harmful.pth", tmp_path / "empty.safetensors"
    harmful.write_bytes(pickle.dumps(Harmful(), protocol=2))
    empty.write_bytes(b"")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for path in (missing, harmful, empty, tmp_path / "numbers.pth", tmp_path / "list.pth", tmp_path):
        with pytest.raises(NetworkError, match=refused) as error:
            check_network(TrialSettings(weights=str(path)), 7, 3)
        assert "\n" not in str(error.value)


def test_weights_and_pretrained_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="pretrained must be false if weights are given"):
        TrialSettings(network="torchvision/squeezenet1_1", pretrained=True, weights="w.pth")
