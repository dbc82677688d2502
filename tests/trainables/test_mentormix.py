"""The Tune trainable through its public doors: train, save, restore, reset, and failures that are results."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import files
from trainables.data import Dataset
from trainables.device import DeviceDataset
from trainables.errors import CheckpointError, StorageUnavailableError, TrainingDiverged
from trainables.files import MANIFEST_FILE, is_intact
from trainables.mentormix import MentorMixTrainable, failure_reason
from trainables.plugins import Plugins
from trainables.settings import DeviceName, TrialSettings
from trainables.training import Trainer

_WITHOUT_MEMORY = """
import resource, psutil, torch
torch.set_num_threads(1)
from trainables.data import load_dataset
from trainables.mentormix import MentorMixTrainable
from trainables.settings import DataSettings, DeviceName

dataset = load_dataset(DataSettings(dataset="digits"))
trainable = MentorMixTrainable.__new__(MentorMixTrainable)
config = {"settings": {"epochs": 2, "batch_size": 32}, "resume_from": None}
trainable.setup(config, dataset)
trainable.step()
limit = psutil.Process().memory_info().vms + 8 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
trainable.reset_config(config | {"settings": {"epochs": 2, "batch_size": 1024, "network": "resnet18_cifar"}})
result = trainable.step()
print(result["failure"])
"""


class DigitsTrainable(MentorMixTrainable):
    """What `tune.with_parameters(MentorMixTrainable, dataset=...)` makes, without an object store."""

    dataset: Dataset

    def setup(
        self,
        config: dict[str, Any],
        dataset: Dataset | None = None,
        threads: int = 1,
        waits: str = "",
        device: DeviceName = "auto",
        plugins: Plugins | None = None,
        metric: str = "val_accuracy",
    ) -> None:
        super().setup(config, self.dataset, threads, device=device)


def digits_trainable(resume_from: Path | None = None, **settings: object) -> Any:
    return DigitsTrainable(config(resume_from, **settings))  # as Any: Ray's own methods have no types


def config(resume_from: Path | None, **settings: object) -> dict[str, Any]:
    return {
        "trial": 3,
        "settings": {"epochs": 2, **settings},
        "resume_from": None if resume_from is None else str(resume_from),
    }


@pytest.fixture(autouse=True)
def _give_the_trainable_its_dataset(noisy_digits: Dataset) -> None:
    DigitsTrainable.dataset = noisy_digits


def test_a_trial_reports_every_epoch_and_is_done_after_the_last() -> None:
    trainable = digits_trainable()

    first, last = trainable.train(), trainable.train()

    assert (first["epoch"], first["done"]) == (1, False)
    assert (last["epoch"], last["done"]) == (2, True)
    assert 0 < last["val_accuracy"] < 1
    trainable.stop()


def test_a_reset_trainable_trains_like_a_new_one() -> None:
    used = digits_trainable(seed=1, second_reweight=True)
    used.train()
    assert used.reset(config(None, seed=2))
    new = digits_trainable(seed=2)

    for _ in range(2):
        after_reset, fresh = used.train(), new.train()
        assert after_reset["train_loss"] == fresh["train_loss"]
        assert after_reset["val_accuracy"] == fresh["val_accuracy"]


def test_a_trial_resumes_from_the_folder_its_configuration_names(tmp_path: Path) -> None:
    trainable = digits_trainable()
    trainable.train()
    trainable.save_checkpoint(str(tmp_path))
    never_stopped = trainable.train()

    resumed = digits_trainable(resume_from=tmp_path).train()

    assert resumed["epoch"] == 2
    assert resumed["done"]
    assert resumed["train_loss"] == never_stopped["train_loss"]
    assert resumed["val_correct"] == never_stopped["val_correct"]


def test_a_trial_restored_by_tune_continues_where_it_was(tmp_path: Path) -> None:
    trainable = digits_trainable()
    trainable.train()
    trainable.save(str(tmp_path))
    never_stopped = trainable.train()

    restored = digits_trainable()
    restored.restore(str(tmp_path))

    assert restored.train()["train_loss"] == never_stopped["train_loss"]


def test_a_trial_resumed_after_its_last_epoch_reports_that_epoch_again(tmp_path: Path) -> None:
    trainable = digits_trainable()
    trainable.train()
    last = trainable.train()
    trainable.save_checkpoint(str(tmp_path))

    again = digits_trainable(resume_from=tmp_path).train()

    repeated = ("epoch", "done", "val_accuracy", "epoch_seconds", "val_images", "val_correct")
    assert {name: again[name] for name in repeated} == {name: last[name] for name in repeated}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"learning_rate": 1e30}, "train_loss is nan in epoch 1"),
        ({"batch_size": 5000}, "batch_size must be at most the number of training images, 1150, got 5000"),
        ({"mixup_alpha": -1}, "mixup_alpha"),
        ({"no_such_setting": 1}, "no_such_setting"),
    ],
)
def test_a_trial_that_fails_reports_why_in_one_line_and_does_not_raise(
    settings: dict[str, object], reason: str, tmp_path: Path
) -> None:
    trainable = digits_trainable(None, **settings)

    result = trainable.train()
    trainable.save_checkpoint(str(tmp_path))

    assert reason in result["failure"]
    assert "\n" not in result["failure"]
    assert result["done"]
    assert result["epoch"] == 0
    assert math.isnan(result["val_accuracy"])
    assert not is_intact(tmp_path)


def test_a_failed_trial_does_not_harm_the_next_in_the_process() -> None:
    trainable = digits_trainable(learning_rate=1e30)
    assert "failure" in trainable.train()

    trainable.reset(config(None))

    assert "failure" not in trainable.train()


def test_a_checkpoint_that_is_not_there_is_no_fault_of_the_trial(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"^no intact checkpoint in {tmp_path}$"):
        digits_trainable(resume_from=tmp_path)


def test_a_checkpoint_out_of_reach_for_long_is_no_fault_of_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RETRY_TIMEOUT_SECONDS", 0.5)
    (tmp_path / MANIFEST_FILE).mkdir()  # cannot be read by any user
    with pytest.raises(StorageUnavailableError, match="Is a directory"):
        digits_trainable(resume_from=tmp_path)


def test_a_reason_names_the_kind_of_an_error_that_does_not_explain_itself() -> None:
    assert failure_reason(TrainingDiverged("train_loss is nan in epoch 3")) == "train_loss is nan in epoch 3"
    assert failure_reason(RuntimeError("out of\n  memory")) == "RuntimeError: out of memory"
    assert len(failure_reason(RuntimeError("x" * 10_000))) <= 500


@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_reports_that_reason() -> None:
    """In a separate process, which is allowed no more address space once all is loaded."""
    ran = subprocess.run([sys.executable, "-c", _WITHOUT_MEMORY], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "can't allocate memory" in ran.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(("error_code", "leaves"), [(None, True), (700, True), (2, False)])
def test_a_cuda_error_leaves_the_trainable_unless_it_is_out_of_memory(error_code: int | None, leaves: bool) -> None:
    """700 is an illegal memory access, 2 is out of memory, the one after which the process can still use its GPU."""
    error = torch.AcceleratorError("CUDA error")
    if error_code is not None:
        vars(error)["error_code"] = error_code

    def fail() -> None:
        raise error

    trainable = digits_trainable()
    trainable._trainer.train_epoch = fail
    if leaves:
        with pytest.raises(torch.AcceleratorError):
            trainable.train()
    else:
        assert trainable.train()["failure"] == "AcceleratorError: CUDA error"
    trainable.stop()


def test_a_trial_holds_out_its_own_fold_also_where_the_one_before_held_out_another(noisy_digits: Dataset) -> None:
    def in_fold(number: int) -> dict[str, Any]:
        return config(None) | {"fold": number}

    split = Trainer(TrialSettings(epochs=2), DeviceDataset(noisy_digits.fold(2), "cpu")).train_epoch()
    trainable: Any = DigitsTrainable(in_fold(0))
    first = trainable.train()
    trainable.reset(in_fold(2))
    second = trainable.train()
    trainable.reset(in_fold(0))

    assert (second["val_accuracy"], second["train_loss"]) == (split["val_accuracy"], split["train_loss"])
    assert second["train_loss"] != first["train_loss"]
    assert trainable.train()["train_loss"] == first["train_loss"]
    trainable.stop()


def test_a_trial_resumed_in_its_fold_ends_like_one_never_stopped(tmp_path: Path) -> None:
    whole: Any = DigitsTrainable(config(None) | {"fold": 3})
    whole.train()
    whole.save_checkpoint(str(tmp_path))
    last = whole.train()
    resumed: Any = DigitsTrainable(config(tmp_path) | {"fold": 3})

    again = resumed.train()

    assert again["epoch"] == 2
    assert (again["val_accuracy"], again["train_loss"]) == (last["val_accuracy"], last["train_loss"])
