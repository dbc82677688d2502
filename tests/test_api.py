"""The Python package, as a script or a notebook uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import tune_mentormix as tm
from tests.support.searches import SMALL
from tune_mentormix.experiment.schemas import SearchStatus

pytestmark = pytest.mark.slow

DIGITS = load_digits()
IMAGES = np.rint(DIGITS.images[:300] * (255 / 16)).astype(np.uint8)  # [300, 8, 8]
LABELS = DIGITS.target[:300]
SHORT: dict[str, Any] = {**SMALL, "num_samples": 2}
FAST: dict[str, Any] = {"epochs": 2, "trials": 3, "max_concurrent": 1, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def on_arrays(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> tm.ExperimentHandle:
    """A search on arrays in memory that ran to its end; tests only read it."""
    storage = tmp_path_factory.mktemp("storage")
    return tm.search("mine", storage=storage, dataset=(IMAGES, LABELS), **FAST)


def test_importing_the_package_imports_neither_torch_nor_ray_and_search_stays_a_function() -> None:
    code = "import sys, tune_mentormix as tm; dir(tm), tm.open, tm.search, tm.RequestError\n"
    code += "assert not {'torch', 'ray', 'optuna', 'numpy', 'matplotlib'} & set(sys.modules), 'imported'\n"
    code += "import tune_mentormix.search.run; from tune_mentormix.search import plan\n"
    code += "print(type(tm.search).__name__, plan.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["function", "tune_mentormix.search.plan"], "")


def test_a_search_on_arrays_returns_an_experiment_that_can_be_opened_again(on_arrays: tm.ExperimentHandle) -> None:
    assert isinstance(on_arrays.path, Path)
    again = tm.open("mine", storage=on_arrays.path.parent)
    status = again.status()
    assert (again.name, status.state, status.trials.finished + status.trials.stopped_early) == ("mine", "finished", 3)
    assert again.best == status.best
    assert again.best is not None
    assert 0 < (again.best.val_accuracy or 0) <= 1
    assert "'mine': finished, best 0." in repr(again)


def test_trials_are_a_data_frame_of_a_row_each(on_arrays: tm.ExperimentHandle) -> None:
    frame = on_arrays.trials()
    assert list(frame["trial"]) == [0, 1, 2]
    assert {"val_accuracy", "mixup_alpha", "note"} <= set(frame.columns)
    assert frame["val_accuracy"].between(0, 1).all()


def test_without_pandas_the_message_tells_how_to_install_it(
    on_arrays: tm.ExperimentHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(tm.RequestError, match=r"a data frame needs pandas: make install EXTRAS=pandas"):
        on_arrays.trials()


def test_an_exported_model_predicts_arrays_tensors_and_files_alike(
    on_arrays: tm.ExperimentHandle, tmp_path: Path
) -> None:
    from PIL import Image

    exported = on_arrays.export(tmp_path / "best")
    assert exported.model is not None
    model = tm.load(tmp_path / "best")
    probabilities = model.probabilities(IMAGES)
    assert probabilities.shape == (300, 10)
    assert list(model.predict(IMAGES)) == [model.class_names[n] for n in probabilities.argmax(axis=1)]
    as_tensor = torch.from_numpy(IMAGES[:5, None]).float() / 255
    np.testing.assert_array_equal(model.probabilities(as_tensor), probabilities[:5])
    Image.fromarray(IMAGES[0]).save(tmp_path / "digit.png")
    np.testing.assert_allclose(model.probabilities(tmp_path / "digit.png"), probabilities[:1], atol=1e-6)
    with pytest.raises(tm.RequestError, match=r"images must have the shape .* \[8, 8, 1\], got \[9, 9, 1\]"):
        model.predict(np.zeros((1, 9, 9), np.uint8))


def test_report_and_labels_are_those_of_the_commands(on_arrays: tm.ExperimentHandle, tmp_path: Path) -> None:
    assert on_arrays.report(tmp_path / "report.html").read_text().startswith("<!doctype html>")
    labels = on_arrays.labels().frame()
    assert len(labels) == 300
    assert set(labels["given"]) == {str(digit) for digit in range(10)}
    assert labels["score"].is_monotonic_decreasing


@pytest.mark.cluster
def test_equal_arrays_are_stored_once_and_a_resume_finds_them(
    ray_session: None, on_arrays: tm.ExperimentHandle
) -> None:
    storage = on_arrays.path.parent
    as_tensors = (torch.from_numpy(IMAGES[:, None]).float() / 255, torch.from_numpy(LABELS))
    tm.search("tensors", storage=storage, dataset=as_tensors, **FAST | {"epochs": 1, "trials": 1})
    assert isinstance(storage, Path)
    assert len(list((storage / ".arrays").iterdir())) == 1
    longer = tm.resume("tensors", storage=storage, trials=2)
    assert longer.status().trials.finished == 2


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"dataset": "digit"}, "unknown dataset 'digit'; did you mean 'digits'"),
        ({"epoch": 3}, "unknown key 'epoch'; did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0$"),
        ({"trials": 2, "num_samples": 3}, "trials and num_samples are two names"),
        ({"dataset": (IMAGES * 1.0, LABELS)}, "images must be uint8, or floats in .0, 1., got float64 from 0 to 255"),
        ({"dataset": (IMAGES[0, 0], LABELS)}, "images must be of shape"),
        ({"dataset": (IMAGES, LABELS[:-1])}, "has 300 images but 299 labels"),
        ({"dataset": (IMAGES,)}, r"dataset must be the name of one, \(images, labels\)"),
        ({"dataset": {"images": IMAGES}}, "dataset has no array 'labels'"),
        ({"dataset": {"image": IMAGES}}, "unknown array of dataset 'image'; did you mean 'images'"),
        ({"dataset": (IMAGES, LABELS), "data_dir": "x"}, "data_dir is where a named dataset is"),
        ({"dataset": (IMAGES, LABELS), "storage": "s3://bucket/x"}, "dataset cannot be arrays in memory"),
    ],
)
def test_a_wrong_request_raises_one_line_without_options_and_creates_nothing(
    request_: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(tm.RequestError, match=message) as raised:
        tm.search("wrong", **{"storage": tmp_path / "new"} | request_)
    assert "\n" not in str(raised.value)
    assert "--" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_resume_refuses_settings_that_cannot_change(on_arrays: tm.ExperimentHandle) -> None:
    with pytest.raises(tm.RequestError, match=r"epochs cannot change in a resume; these may: trials, address"):
        tm.resume("mine", storage=str(on_arrays.path.parent), epochs=5)


@pytest.mark.cluster
def test_an_interrupted_search_raises_keyboard_interrupt_and_can_be_resumed(
    ray_session: None, tmp_path: Path
) -> None:
    def interrupt(status: SearchStatus) -> None:
        if status.epochs_run and not interrupted:
            interrupted.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    interrupted: list[bool] = []
    settings: dict[str, Any] = SHORT | {"epochs": 60}
    with pytest.raises(KeyboardInterrupt, match="stopped was interrupted"):
        tm.search("stopped", storage=tmp_path, on_progress=interrupt, **settings)
    stopped = tm.open("stopped", storage=tmp_path).status()
    assert (stopped.state, stopped.ended) == ("interrupted", "interrupted")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert tm.resume("stopped", storage=tmp_path).status().state == "finished"


def test_a_search_runs_in_another_thread_too(ray_session: None, tmp_path: Path) -> None:
    found: list[tm.ExperimentHandle] = []
    thread = threading.Thread(
        target=lambda: found.append(tm.search("aside", storage=tmp_path, **SHORT | {"epochs": 1}))
    )
    thread.start()
    thread.join(timeout=300)
    assert [handle.status().state for handle in found] == ["finished"]


def test_a_search_whose_every_trial_fails_raises_with_the_reason(ray_session: None, tmp_path: Path) -> None:
    space = {"learning_rate": {"choices": [1e30, 2e30]}}
    with pytest.raises(tm.SearchFailedError, match="every trial failed; the first, trial 0: val_loss is"):
        tm.search("failed", storage=tmp_path, space=space, controls=[], **SHORT)
    assert tm.open("failed", storage=tmp_path).status().trials.failed > 0
