"""A trial computes in the precision it is told to, and reproducibly on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.device import DeviceDataset, autocast, find_device
from trainables.errors import DeviceError
from trainables.settings import Precision, TrialSettings
from trainables.training import Trainer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_networks_compute_in_bfloat16_on_a_cpu_only_if_asked_to(precision: Precision, dtype: torch.dtype) -> None:
    with autocast(precision, CPU):
        assert nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8)).dtype == dtype


def test_fp16_is_float32_on_a_cpu_and_float16_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)

    assert not autocast("fp16", CPU)._enabled
    on_cuda = autocast("fp16", torch.device("cuda"))

    assert (on_cuda._enabled, on_cuda.fast_dtype) == (True, torch.float16)


def test_a_device_that_is_not_there_is_named_with_what_to_use() -> None:
    if not torch.cuda.is_available():
        assert find_device("auto") == CPU
        with pytest.raises(DeviceError, match=r"^device cuda is not there: .* use auto or cpu$"):
            find_device("cuda")
    if not torch.backends.mps.is_available():
        with pytest.raises(DeviceError, match=r"^device mps is not there: .* use auto or cpu$"):
            find_device("mps")
    assert find_device("cpu") == CPU


def test_a_trial_in_bfloat16_learns_like_one_in_float32_and_keeps_its_weights_in_float32(data: DeviceDataset) -> None:
    metrics = {}
    for precision in ("fp32", "bf16"):
        trainer = Trainer(TrialSettings(precision=precision, mentor="uniform", mixup_alpha=0, epochs=3), data)
        for _ in range(3):
            metrics[precision] = trainer.train_epoch()
        assert all(weight.dtype == torch.float32 for weight in trainer.network.parameters())

    assert metrics["bf16"]["train_loss"] == pytest.approx(metrics["fp32"]["train_loss"], rel=0.02)
    assert metrics["bf16"]["train_loss"] != metrics["fp32"]["train_loss"]


def test_operations_that_would_not_repeat_themselves_are_refused_on_a_cpu(data: DeviceDataset) -> None:
    Trainer(TrialSettings(), data)

    assert torch.are_deterministic_algorithms_enabled()
