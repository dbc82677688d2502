"""Whatever is wrong with a plug-in, of each kind, is one line with its name: before the search, and in a trial."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from trainables import plugins
from trainables.data import load_dataset
from trainables.device import DeviceDataset
from trainables.mentormix import failure_reason
from trainables.plugins import PluginKind, allow_plugins, plugins_in
from trainables.settings import DataSettings, TrialSettings
from trainables.training import Trainer
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import RequestError
from tune_mentormix.search.plan import new_request

HERE = "tests.support.own_plugins"
BEFORE: list[tuple[PluginKind, str, str]] = [
    ("network", "raising", "raised KeyError: 'no such layer'"),
    ("network", "wrong_shape", r"must return logits \[2, 10\] for 2 images and 10 classes, got \[2, 11\]"),
    ("network", "wrong_kind", "must return floating-point logits, got torch.int64"),
    ("network", "not_a_number", "returned logits that are not finite"),
    ("network", "hanging", "hangs: it did not return within"),
    ("metric", "metric_that_raises", "raised KeyError: 'metric'"),
    ("metric", "metric_of_many", "must return a number, got one ndarray"),
    ("metric", "metric_of_text", "must return a number, got one str"),
    ("metric", "metric_of_nan", "returned nan, which is no finite number"),
    ("metric", "metric_that_hangs", "hangs: it did not return within"),
    ("mentor", "mentor_that_raises", "raised KeyError: 'mentor'"),
    ("mentor", "mentor_of_one", r"must return a weight for each of 32 losses, got \[1\]"),
    ("mentor", "mentor_of_bools", "must return weights of the losses' type float32, got torch.bool"),
    ("mentor", "mentor_of_nan", r"must return weights in \[0, 1\]"),
    ("mentor", "mentor_that_hangs", "hangs: it did not return within"),
    ("augmentation", "augmentation_that_raises", "raised KeyError: 'augmentation'"),
    ("augmentation", "smaller", r"must return images \[8, 1, 8, 8\] as they came, got \[8, 1, 7, 8\]"),
    ("augmentation", "doubled", "must return images of type float32, got torch.float64"),
    ("augmentation", "augmentation_of_nan", r"must return pixels in \[0, 1\]"),
    ("augmentation", "augmentation_that_hangs", "hangs: it did not return within"),
    ("dataset", "unreadable", "raised FileNotFoundError: No such file or directory"),
    ("dataset", "flat", r"must be uint8 of shape .*, got uint8 of shape \[4, 36\]"),
    ("dataset", "floats", r"must be uint8 of shape .*, got float64 of shape"),
    ("dataset", "labels_of_nan", "must be"),
]
IN_TRAINING: list[tuple[PluginKind, str, str]] = [
    ("network", "RaisesLater", "raised IndexError: too many birds"),
    ("network", "ShapedOtherwiseLater", "with network"),
    ("network", "TurnsToNan", "with network"),
    ("mentor", "mentor_that_raises_later", "raised KeyError: 'late'"),
    ("mentor", "mentor_of_one_later", "with mentor"),
    ("mentor", "mentor_of_nan_later", "with mentor"),
    ("augmentation", "augmentation_that_raises_later", "raised KeyError: 'late'"),
    ("augmentation", "smaller_batch_later", "with augmentation"),
    ("augmentation", "augmentation_of_nan_later", "with augmentation"),
    ("metric", "metric_that_raises", "raised KeyError: 'metric'"),
    ("metric", "metric_of_nan", "returned nan, which is no finite number"),
]


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_allowed", set())
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="module")
def digits() -> DeviceDataset:
    return DeviceDataset(load_dataset(DataSettings(dataset="digits", max_images=400)), "cpu")


def asked(kind: PluginKind, name: str) -> dict[str, Any]:
    """The settings that name a plug-in."""
    return {"trial": {kind: name}} if kind in ("mentor", "augmentation") else {kind: name}


@pytest.mark.parametrize(("kind", "attribute", "said"), BEFORE)
def test_before_a_search_it_is_one_line_with_its_name(
    kind: PluginKind, attribute: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "CHECK_SECONDS", 0.2 if attribute.endswith(("hanging", "hangs")) else 60)
    name = f"{HERE}:{attribute}"
    settings = read_settings(None, {"name": "own", "storage": str(tmp_path), "noise": 0.0} | asked(kind, name))
    with pytest.raises(RequestError, match=said) as caught:
        new_request(settings)
    assert f"{kind} {name}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "attribute", "said"), IN_TRAINING)
def test_in_a_trial_it_is_the_reason_of_the_failure(
    kind: PluginKind, attribute: str, said: str, digits: DeviceDataset
) -> None:
    name = f"{HERE}:{attribute}"
    allow_plugins([name])
    metric = name if kind == "metric" else "val_accuracy"
    values: dict[str, Any] = {"epochs": 2, "burn_in": 0} | ({} if kind == "metric" else {kind: name})
    settings = TrialSettings(**values)
    with pytest.raises((ValueError, RuntimeError, LookupError)) as caught:
        Trainer(settings, digits, metric).train_epoch()
    error = caught.value.with_traceback(caught.tb.tb_next)  # this file is of the same package as the plug-ins
    assert isinstance(error, Exception)
    reason = failure_reason(error, plugins_in(values | {"metric": metric}))
    assert said in reason
    assert f"{kind} {name}" in reason
    assert "\n" not in reason


def test_a_data_set_that_takes_long_is_told_by_its_name_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plugins, "SLOW_SECONDS", 0.1)
    name = f"{HERE}:slow_stripes"
    settings = {"name": "own", "storage": str(tmp_path), "noise": 0.0, "dataset": name, "trial": {"batch_size": 8}}
    with caplog.at_level(logging.WARNING, "trainables"):
        new_request(read_settings(None, settings))
    assert [f"dataset {name} has not returned for 0.1 s" in message for message in caplog.messages] == [True]
