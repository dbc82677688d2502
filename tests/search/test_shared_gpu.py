"""Trials that share a GPU, in a Ray that has a pretended one; a worker's memory really runs out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.storage.journal import JOURNAL_FILE, read_events

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, str]:
    """The search, and what it wrote to stderr."""
    folder = tmp_path_factory.mktemp("shared")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.shared_gpu_search", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return read_experiment(folder / "storage", "shared"), ran.stderr


def test_a_node_whose_gpus_torch_does_not_find_is_named_once(ended: tuple[Experiment, str]) -> None:
    assert ended[1].count("hold GPUs and train on the CPU") == 1


def test_a_trial_that_runs_out_of_memory_fails_with_that_reason_and_the_other_finishes(
    ended: tuple[Experiment, str],
) -> None:
    trials = sorted(ended[0].trials.values(), key=lambda trial: trial.state)
    assert [trial.state for trial in trials] == ["failed", "finished"]
    assert "can't allocate memory" in str(trials[0].error)
    assert trials[0].attempt == 1, "it would run out of memory again"


def test_each_trial_had_its_fraction_of_the_gpu(ended: tuple[Experiment, str]) -> None:
    [started] = [event for event in read_events(ended[0].path / JOURNAL_FILE) if event["event"] == "run_started"]
    assert started["gpus_per_trial"] == 0.5
