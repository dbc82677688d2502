"""Arrays of checkpoints are not used if they are damaged, or belong to another trial."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainables.files import MANIFEST_FILE, PROBABILITIES_FILE, STATE_FILE, write_checkpoint
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.checkpoints import validation_probabilities
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.provenance import Provenance
from tune_mentormix.experiment.trial import Trial

FOLDER = "runs/1/trial-0/checkpoint_000000"
PROBABILITIES = np.full((3, 2), 0.5, np.float16)


def experiment_with_checkpoint(storage: Path, trial: int = 0) -> tuple[Experiment, Trial]:
    """One trial of one epoch, with a checkpoint that tells that it is of `trial`."""
    writers = {
        STATE_FILE: lambda file: file.write(b"state"),
        PROBABILITIES_FILE: lambda file: np.save(file, PROBABILITIES),
    }
    write_checkpoint(storage / "birds" / FOLDER, writers, {"trial": trial, "epoch": 1})
    settings = SearchSettings(name="birds", space={"burn_in": {"low": 0, "high": 20}}, storage=storage)
    experiment = Experiment(storage / "birds", settings, Provenance())
    return experiment, Trial(0, {}, reports={1: {"val_accuracy": 0.5}}, checkpoints=[(1, FOLDER)])


def test_an_array_beside_the_state_is_read(tmp_path: Path) -> None:
    found = validation_probabilities(*experiment_with_checkpoint(tmp_path))
    np.testing.assert_array_equal(found, PROBABILITIES)


def cut(folder: Path) -> None:
    path = folder / PROBABILITIES_FILE
    path.write_bytes(path.read_bytes()[:-1])


def remove(folder: Path) -> None:
    (folder / PROBABILITIES_FILE).unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, f"{PROBABILITIES_FILE} cannot be used: it is not the file that was written"),
        (
            lambda folder: (folder / PROBABILITIES_FILE).unlink(),
            f"{PROBABILITIES_FILE} cannot be used: it is missing",
        ),
        (
            lambda folder: (folder / MANIFEST_FILE).write_text("[3"),
            f"{MANIFEST_FILE} cannot be used: it is no manifest",
        ),
        (lambda folder: (folder / MANIFEST_FILE).write_text('{"probabilities": 3}'), "it is no manifest"),
        (lambda folder: (folder / MANIFEST_FILE).write_bytes(b"\xff"), "it is no manifest"),
    ],
)
def test_a_damaged_array_is_told_in_one_line_and_left_out(
    tmp_path: Path, damage: Callable[[Path], object], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    experiment, trial = experiment_with_checkpoint(tmp_path)
    damage(tmp_path / "birds" / FOLDER)

    with caplog.at_level(logging.WARNING):
        assert validation_probabilities(experiment, trial) is None
        assert validation_probabilities(experiment, trial) is None

    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]


def test_an_array_of_another_trial_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    experiment, trial = experiment_with_checkpoint(tmp_path, trial=7)

    assert validation_probabilities(experiment, trial) is None
    assert "is the checkpoint of trial 7, epoch 1, and should be of trial 0, epoch 1" in caplog.text


def test_a_checkpoint_that_was_deleted_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    experiment, trial = experiment_with_checkpoint(tmp_path)
    (tmp_path / "birds" / FOLDER).rename(tmp_path / "away")

    assert validation_probabilities(experiment, trial) is None
    assert caplog.messages == []
