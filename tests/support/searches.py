"""Runs, copies and reads back the small searches of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.confirmation import Confirmation, read_confirmation

SearchRunner = Callable[..., Experiment]
TOP_K, SEEDS = 1, 2  # of the confirmed search
SMALL: dict[str, object] = {
    "noise": 0.4,
    "validation_fraction": 0.2,
    "max_images": 300,
    "epochs": 4,
    "num_samples": 5,
    "checkpoint_every": 1,
    "max_concurrent": 1,  # starting a worker is most of what a small search costs
}


def quiet(_progress: object) -> None:
    """Shows no progress."""


def folder_of(experiment: Experiment) -> Path:
    """Returns the folder of an experiment on disk."""
    assert isinstance(experiment.path, Path)
    return experiment.path


def copy_of(experiment: Experiment, storage: Path) -> Path:
    """Copies an experiment into another storage folder and returns that folder."""
    shutil.copytree(folder_of(experiment), storage / experiment.name)
    return storage


def confirmation_of(experiment: Experiment) -> Confirmation:
    """Returns the confirmation of a confirmed search."""
    confirmation = read_confirmation(experiment)
    assert confirmation is not None
    return confirmation


def run_script(script: Path, folder: Path, code: Path) -> str:
    """Runs a Python script in a folder, with the project's packages in `code`; returns what it printed.

    Fails if it does, or if it shows a traceback.
    """
    environment = os.environ | {"PYTHONPATH": str(code)}
    ran = subprocess.run(
        [sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout
