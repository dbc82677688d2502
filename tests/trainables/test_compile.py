"""`compile: true`: the loss is one graph for each phase of a trial, and computes what eager training does."""

from __future__ import annotations

import functools
import shutil
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from trainables.device import DeviceDataset
from trainables.settings import TrialSettings
from trainables.training import Trainer

pytestmark = pytest.mark.slow


def losses_of(data: DeviceDataset, steps: list[int], **settings: Any) -> list[float]:
    """Trains these steps of a trial of 80, of which the first 16 are without a first pass; returns their losses."""
    trainer = Trainer(TrialSettings.model_validate({"epochs": 10, "burn_in": 50} | settings), data)
    return [trainer.train_step(step, torch.arange(128)).tolist()[0] for step in steps]


@pytest.mark.parametrize(
    "settings",
    [
        {"second_reweight": True},
        {"mentor": "threshold", "mixing": "interpolated", "precision": "bf16"},
        {"mentor": "uniform", "mixup_alpha": 0.0},
    ],
    ids=["reference", "paper", "plain"],
)
def test_the_loss_is_traced_without_a_break_once_for_each_phase(
    monkeypatch: pytest.MonkeyPatch, data: DeviceDataset, settings: dict[str, Any]
) -> None:
    """A break raises, since the graph must be full; a number that changes from step to step would trace again."""
    graphs = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=graphs))
    torch.compiler.reset()
    steps = [0, 1, 5, 45, 60, 79]

    compiled = losses_of(data, steps, compile=True, **settings)

    assert graphs.frame_count == (1 if settings.get("mentor") == "uniform" else 2)
    assert compiled == losses_of(data, steps, **settings)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_steps_equal_eager_ones_within_rounding(data: DeviceDataset) -> None:
    torch.compiler.reset()
    steps = [45, 46, 47]

    compiled = losses_of(data, steps, compile=True, second_reweight=True)

    assert compiled == pytest.approx(losses_of(data, steps, second_reweight=True), abs=1e-4)
