"""Searches with plug-ins: their code travels, is on record, and is asked for again where a model needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import tune_mentormix as tm
from tests.support.own_plugins import PARTS_SOURCE
from tests.support.searches import SearchRunner, quiet
from trainables import plugins
from tune_mentormix.cli.app import run
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.search import plan
from tune_mentormix.search.run import resume_search
from tune_mentormix.service.admission import NotAllowedError, admit, admit_changes
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.storage.yaml_files import read_yaml

NAME = "birds_plugin.nets:BirdNet"
SOURCE = (
    '''"""What a user brings."""
import numpy as np
import torch
from torch import nn


class BirdNet(nn.Sequential):
    def __init__(self, num_classes, in_channels):
        super().__init__(nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, num_classes))
'''
    + PARTS_SOURCE
    + """


def worst_class(labels, probabilities):
    right = probabilities.argmax(axis=1) == labels
    return 1 + min(right[labels == label].mean() for label in np.unique(labels))
"""
)
DATASET, MENTOR, AUGMENTATION, METRIC = (
    f"birds_plugin.nets:{name}" for name in ("load", "half", "darker", "worst_class")
)
OWN: dict[str, object] = {
    "network": NAME,
    "dataset": DATASET,
    "metric": METRIC,
    "noise": 0.0,
    "trial": {"augmentation": AUGMENTATION, "mentor": MENTOR},
}
TINY: dict[str, object] = {"epochs": 1, "num_samples": 1, "controls": ["published"], "max_images": 200}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a user, in the folder that the search is started from."""
    folder = tmp_path / "code" / "birds_plugin"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_allowed", set())
    monkeypatch.setattr(plugins, "_objects", {})
    monkeypatch.chdir(folder.parent)
    for module in [name for name in sys.modules if name.startswith("birds_plugin")]:
        monkeypatch.delitem(sys.modules, module)
    return folder


def test_a_network_by_its_name_is_searched_with_exported_and_loaded(
    package: Path, tmp_path: Path, run_search: SearchRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = run_search(tmp_path, name="own", **TINY | OWN)
    assert [trial.state for trial in experiment.trials.values()] == ["finished"]
    last = experiment.trials[0]
    assert (last.config["mentor"], last.config["augmentation"]) == (MENTOR, AUGMENTATION)
    assert all(1 <= (trial.score or 0) <= 2 for trial in experiment.trials.values())
    assert set(read_experiment(tmp_path, "own").provenance.plug_ins) == {
        *(NAME, DATASET, MENTOR, AUGMENTATION, METRIC)
    }
    verdict = tm.open("own", storage=tmp_path).status().verdict
    assert verdict is not None
    assert f"By {METRIC}, " in verdict.headline
    tm.open("own", storage=tmp_path).export(tmp_path / "best")
    assert {NAME, DATASET} <= read_yaml(tmp_path / "best" / "best_config.yaml").values["plug_ins"].keys()
    assert f"`{NAME}`" in (tmp_path / "best" / "model_card.md").read_text()
    assert f"--plug-in {NAME}" in (tmp_path / "best" / "reproduce.sh").read_text()

    monkeypatch.setattr(plugins, "_allowed", set())  # as in another process
    images = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(tm.RequestError, match=f"needs network {NAME}, code that is no part of it: install it"):
        tm.load(tmp_path / "best")
    assert tm.load(tmp_path / "best", plug_ins=[NAME]).probabilities(images).shape == (2, 3)
    (package / "nets.py").write_text(SOURCE + "\n")
    with pytest.raises(tm.RequestError, match=f"the source of network {NAME} is not what it was for .*/best"):
        tm.load(tmp_path / "best", plug_ins=[NAME])
    with pytest.raises(RequestError, match=f"the source of network {NAME} is not what it was for own: restore it"):
        resume_search(tmp_path, "own", {"num_samples": 2}, quiet)
    (package / "nets.py").unlink()
    page = str(tmp_path / "report.html")
    for read in (["status", "own"], ["trials", "own"], ["list"], ["report", "own", "--out", page]):
        assert run([*read, "--storage", str(tmp_path)]) == 0


@pytest.mark.cluster
def test_objects_are_searched_with_and_given_again_in_another_process(
    package: Path, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Local(nn.Module):
        def __init__(self, num_classes: int, in_channels: int) -> None:
            super().__init__()
            self.head = nn.Linear(64 * in_channels, num_classes)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(images.flatten(1))
            return logits

    small: dict[str, Any] = {"max_concurrent": 1, "batch_size": 50, "controls": ["published"], "max_images": 200}
    experiment = tm.search("local", storage=tmp_path, network=Local, epochs=1, trials=1, **small)
    assert experiment.status().trials.finished == 1
    monkeypatch.setattr(plugins, "_allowed", set())
    monkeypatch.setattr(plugins, "_objects", {})
    with pytest.raises(tm.RequestError, match="network __main__:Local was given as a Python object: give it again"):
        tm.resume("local", storage=tmp_path, trials=2)
    assert tm.resume("local", storage=tmp_path, trials=2, plug_ins=[Local]).status().trials.finished == 2


@pytest.mark.cluster
def test_nothing_is_created_where_a_worker_cannot_use_the_network(
    package: Path, tmp_path: Path, run_search: SearchRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_here = "import os, sys\nif 'pytest' not in sys.modules:\n    raise ImportError('no birds here')\n"
    (package.parent / "shy_plugin.py").write_text(only_here + SOURCE)
    own = {**TINY, **OWN, "network": "shy_plugin:BirdNet"}
    said = r"network shy_plugin:BirdNet cannot be imported: ImportError: no birds here \(on node "
    with pytest.raises(RequestError, match=said):
        run_search(tmp_path / "storage", name="own", **own)
    assert not list(tmp_path.glob("storage/own"))
    with pytest.raises(RequestError, match=r"network birds_plugin\.nets:Bird is not there: .* has no Bird"):
        plan.new_request(read_settings(None, {"network": "birds_plugin.nets:Bird", "storage": str(tmp_path)}))


@pytest.mark.parametrize(
    "asked",
    [
        {"network": NAME},
        {"network": "__main__:Net"},
        {"metric": METRIC},
        {"trial": {"mentor": MENTOR}},
        {"trial": {"augmentation": AUGMENTATION}},
        {"space": {"mentor": {"choices": ["uniform", MENTOR]}}},
    ],
)
def test_the_service_takes_no_plug_in(asked: dict[str, object]) -> None:
    server = ServerSettings()
    with pytest.raises(NotAllowedError, match=r"^\w+ [\w.]+:\w+ is a plug-in: the service runs no code but its own$"):
        admit({"name": "own", **asked}, "ann", server)


def test_the_service_resumes_no_search_with_a_plug_in(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "own", read_settings(None, {"network": NAME}))
    with pytest.raises(NotAllowedError, match="is a plug-in"):
        admit_changes(experiment, {"num_samples": 9}, ServerSettings())
