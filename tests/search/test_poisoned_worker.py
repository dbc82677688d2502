"""A CUDA error after which a process can no longer use its GPU ends the worker, not the trial."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.support.searches import SearchRunner
from trainables.mentormix import MentorMixTrainable
from tune_mentormix.search import tune_run

pytestmark = pytest.mark.slow

GRACE_SECONDS = 30  # for a process to end


def test_ray_replaces_a_worker_whose_gpu_fails_and_its_trial_continues(
    monkeypatch: pytest.MonkeyPatch, run_search: SearchRunner, tmp_path: Path
) -> None:
    epochs = tmp_path / "epochs"

    class FailingOnce(MentorMixTrainable):
        """The first trial meets the error in its second epoch, as a kernel that went wrong would raise it."""

        def _build(self, config: dict[str, Any]) -> None:
            super()._build(config)
            trainer = self._trainer
            assert trainer is not None
            train = trainer.train_epoch

            def train_epoch() -> dict[str, float]:
                with epochs.open("a") as file:
                    file.write(f"{config['trial']} {config['attempt']} {os.getpid()}\n")
                if (config["trial"], config["attempt"], trainer.epoch) == (0, 1, 1):
                    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
                return train()

            trainer.train_epoch = train_epoch  # type: ignore[method-assign]

    monkeypatch.setattr(tune_run, "MentorMixTrainable", FailingOnce)
    experiment = run_search(tmp_path, name="poisoned", num_samples=2, epochs=2, max_concurrent=1, checkpoint_every=1)

    assert [(trial.state, trial.attempt) for trial in experiment.trials.values()] == [
        ("finished", 2),
        ("finished", 1),
    ]
    rows = [tuple(map(int, line.split())) for line in epochs.read_text().splitlines()]
    poisoned = next(pid for trial, attempt, pid in rows if (trial, attempt) == (0, 1))
    assert {(trial, attempt) for trial, attempt, pid in rows if pid == poisoned} == {(0, 1)}
    deadline = time.monotonic() + GRACE_SECONDS
    while psutil.pid_exists(poisoned) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(poisoned)
