"""A trial that was interrupted ends like one that was not; a truncated checkpoint is recognized."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.device import DeviceDataset
from trainables.errors import CheckpointError
from trainables.files import (
    EXAMPLE_WEIGHTS_FILE,
    MANIFEST_FILE,
    PROBABILITIES_FILE,
    STATE_FILE,
    is_intact,
    write_checkpoint,
)
from trainables.objective import BatchLoss, MentorMixObjective
from trainables.schedules import burn_in_end
from trainables.settings import MentorName, TrialSettings
from trainables.training import Trainer

EPOCHS = 3
SETTINGS = TrialSettings(epochs=EPOCHS, burn_in=40, second_reweight=True, mixup_alpha=2, seed=7)

GO_ON = """
import sys
from pathlib import Path
import torch
from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.data import load_dataset
from trainables.settings import DataSettings, TrialSettings
from trainables.device import DeviceDataset
from trainables.training import Trainer

torch.set_num_threads(1)
settings = TrialSettings.model_validate_json(sys.argv[1])
data = DeviceDataset(load_dataset(DataSettings(dataset="digits", noise=0.4)), "cpu")
trainer = Trainer(settings, data)
load_checkpoint(trainer, Path(sys.argv[2]))
while trainer.epoch < settings.epochs:
    trainer.train_epoch()
save_checkpoint(trainer, Path(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def checkpoints(data: DeviceDataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A trial that is never stopped, saved after every epoch: the folder at index n holds it after n epochs."""
    folders = [tmp_path_factory.mktemp("trial") / f"epoch_{epoch}" for epoch in range(EPOCHS + 1)]
    trainer = Trainer(SETTINGS, data)
    save_checkpoint(trainer, folders[0])
    for folder in folders[1:]:
        trainer.train_epoch()
        save_checkpoint(trainer, folder)
    return folders


def state(folder: Path) -> object:
    saved = torch.load(folder / STATE_FILE, weights_only=True)
    for timed in ("epoch_seconds", "images_per_second"):
        saved["metrics"].pop(timed, None)
        saved["best"]["metrics"].pop(timed, None)
    return saved


def assert_identical(one: object, other: object) -> None:
    """Equal to the last bit, tensors within lists and dictionaries included."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        for key in one:
            assert_identical(one[key], other[key])
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        assert len(one) == len(other)
        for one_item, other_item in zip(one, other, strict=True):
            assert_identical(one_item, other_item)
    else:
        assert one == other


def test_a_trial_resumed_from_its_checkpoint_in_a_fresh_process_ends_like_one_never_stopped(
    checkpoints: list[Path], tmp_path: Path
) -> None:
    arguments = [SETTINGS.model_dump_json(), str(checkpoints[2]), str(tmp_path)]
    subprocess.run([sys.executable, "-c", GO_ON, *arguments], check=True)

    assert_identical(state(tmp_path), state(checkpoints[EPOCHS]))


def test_loading_restores_what_another_trial_in_the_process_has_changed(
    checkpoints: list[Path], data: DeviceDataset, tmp_path: Path
) -> None:
    Trainer(TrialSettings(epochs=1, seed=99), data).train_epoch()
    trainer = Trainer(SETTINGS, data)

    load_checkpoint(trainer, checkpoints[2])
    save_checkpoint(trainer, tmp_path)

    assert_identical(state(tmp_path), state(checkpoints[2]))


def test_saving_again_replaces_the_checkpoint_and_leaves_nothing_else(
    checkpoints: list[Path], data: DeviceDataset, tmp_path: Path
) -> None:
    trainer = Trainer(SETTINGS, data)
    save_checkpoint(trainer, tmp_path)
    load_checkpoint(trainer, checkpoints[1])
    save_checkpoint(trainer, tmp_path)

    assert is_intact(tmp_path)
    assert_identical(state(tmp_path), state(checkpoints[1]))
    assert {path.name for path in tmp_path.iterdir()} == {STATE_FILE, PROBABILITIES_FILE, MANIFEST_FILE}


def test_the_validation_probabilities_of_its_epoch_lie_beside_a_checkpoint_readable_without_torch(
    checkpoints: list[Path], data: DeviceDataset
) -> None:
    trainer = Trainer(SETTINGS, data)
    load_checkpoint(trainer, checkpoints[2])

    probabilities = np.load(checkpoints[2] / PROBABILITIES_FILE, allow_pickle=False)

    assert trainer.validation is not None
    assert probabilities.dtype == np.float16
    assert np.array_equal(probabilities, trainer.validation.probabilities.numpy())
    assert not (checkpoints[0] / PROBABILITIES_FILE).exists()  # before the first epoch there are none


def test_the_mean_weights_after_burn_in_lie_beside_a_checkpoint(
    data: DeviceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(SETTINGS, data)
    sums, counts = np.zeros(len(data.train_labels)), np.zeros(len(data.train_labels))
    steps = EPOCHS * (len(data.train_labels) // SETTINGS.batch_size)
    train_step, seen = trainer.train_step, [np.zeros(0, np.int64)]
    compute = MentorMixObjective.__call__

    def weigh(self: MentorMixObjective, step: int, images: torch.Tensor, labels: torch.Tensor) -> BatchLoss:
        result = compute(self, step, images, labels)
        if step >= burn_in_end(SETTINGS.burn_in, steps):
            sums[seen[-1]] += result.weights.numpy()
            counts[seen[-1]] += 1
        return result

    def remembered(step: int, batch_index: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        seen.append(batch_index.numpy())
        return train_step(step, batch_index, images)

    monkeypatch.setattr(MentorMixObjective, "__call__", weigh)
    monkeypatch.setattr(trainer, "train_step", remembered)
    for epoch in range(EPOCHS):
        save_checkpoint(trainer, tmp_path / str(epoch))
        trainer.train_epoch()
    save_checkpoint(trainer, tmp_path / "end")

    assert not (tmp_path / "1" / EXAMPLE_WEIGHTS_FILE).exists(), "the first epoch is burn-in"
    stored = np.load(tmp_path / "end" / EXAMPLE_WEIGHTS_FILE, allow_pickle=False)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(stored, sums / counts, atol=1e-3)
    assert np.isfinite(stored).any()
    assert data.is_clean is not None
    is_clean = data.is_clean.numpy().astype(bool)
    assert np.nanmean(stored[is_clean]) > np.nanmean(stored[~is_clean]) + 0.1


@pytest.mark.parametrize("mentor", ["uniform", "focal"])
def test_weights_that_do_not_fall_with_the_loss_are_not_kept(
    data: DeviceDataset, tmp_path: Path, mentor: MentorName
) -> None:
    trainer = Trainer(TrialSettings(epochs=1, burn_in=0, mentor=mentor), data)
    trainer.train_epoch()
    save_checkpoint(trainer, tmp_path)
    assert not (tmp_path / EXAMPLE_WEIGHTS_FILE).exists()


def test_a_checkpoint_of_an_earlier_version_without_probabilities_and_weights_is_intact(
    checkpoints: list[Path], data: DeviceDataset, tmp_path: Path
) -> None:
    earlier = torch.load(checkpoints[2] / STATE_FILE, weights_only=True)
    del earlier["example_weights"]
    write_checkpoint(tmp_path, {STATE_FILE: lambda file: torch.save(earlier, file)})

    assert json.loads((tmp_path / MANIFEST_FILE).read_text()).keys() == {"file", "bytes", "sha256"}
    assert is_intact(tmp_path)
    load_checkpoint(Trainer(SETTINGS, data), tmp_path)


def test_a_folder_that_is_missing_empty_or_half_written_is_not_whole(checkpoints: list[Path], tmp_path: Path) -> None:
    assert not is_intact(tmp_path / "missing")
    assert not is_intact(tmp_path)
    (tmp_path / STATE_FILE).write_bytes((checkpoints[0] / STATE_FILE).read_bytes())
    assert not is_intact(tmp_path)
    (tmp_path / MANIFEST_FILE).write_bytes((checkpoints[0] / MANIFEST_FILE).read_bytes())
    assert is_intact(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_of_the_system(data: DeviceDataset, tmp_path: Path) -> None:
    (tmp_path / f".{STATE_FILE}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(Trainer(SETTINGS, data), tmp_path)


@pytest.mark.parametrize("file_name", [STATE_FILE, PROBABILITIES_FILE, EXAMPLE_WEIGHTS_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("damage", ["cut", "emptied", "one bit", "garbage", "of another epoch"])
def test_a_damaged_checkpoint_is_refused_clearly(
    checkpoints: list[Path], data: DeviceDataset, tmp_path: Path, file_name: str, damage: str
) -> None:
    for name in (STATE_FILE, PROBABILITIES_FILE, EXAMPLE_WEIGHTS_FILE, MANIFEST_FILE):
        (tmp_path / name).write_bytes((checkpoints[2] / name).read_bytes())
    content = (tmp_path / file_name).read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "emptied": b"",
        "one bit": content[:40] + bytes([content[40] ^ 1]) + content[41:],
        "garbage": bytes(range(256)) * 10,
        "of another epoch": (checkpoints[3] / file_name).read_bytes(),
    }[damage]
    (tmp_path / file_name).write_bytes(damaged)

    assert not is_intact(tmp_path)
    with pytest.raises(CheckpointError, match=f"^no intact checkpoint in {tmp_path}$"):
        load_checkpoint(Trainer(SETTINGS, data), tmp_path)


def test_a_checkpoint_of_another_kind_of_trial_is_refused_clearly(data: DeviceDataset, tmp_path: Path) -> None:
    trainer = Trainer(SETTINGS.model_copy(update={"ema": 0.0}), data)
    save_checkpoint(trainer, tmp_path)

    with pytest.raises(CheckpointError, match="does not fit this trial"):
        load_checkpoint(Trainer(SETTINGS, data), tmp_path)


def test_a_file_that_would_execute_code_is_not_executed(data: DeviceDataset, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    write_checkpoint(tmp_path, {STATE_FILE: lambda file: pickle.dump(Harmful(), file, protocol=2)})

    with pytest.raises(CheckpointError, match="holds no trial"):
        load_checkpoint(Trainer(SETTINGS, data), tmp_path)
