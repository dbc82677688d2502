"""What is measured is a real trial's training; that a number comes out of it, only a GPU can show."""

from __future__ import annotations

import pytest
import torch

from trainables.datasets import Dataset
from trainables.device_data import DeviceDataset
from trainables.memory_probe import measure_memory, train_a_little
from trainables.settings import TrialSettings

CONFIG = TrialSettings(batch_size=64, second_reweight=True, ema=0.1).model_dump()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(noisy_digits: Dataset) -> None:
    assert measure_memory([CONFIG], noisy_digits, threads=1) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_larger_batch_takes_more_of_a_gpu_and_all_that_is_taken_fits(noisy_digits: Dataset) -> None:
    small, large = (measure_memory([CONFIG | {"batch_size": size}], noisy_digits, threads=1) for size in (16, 1024))
    assert small is not None
    assert large is not None
    assert 0 < small.peak < large.peak < large.total


@pytest.mark.parametrize("mentor", ["uniform", "mentornet_pd"])
def test_a_little_training_is_that_of_a_trial_and_ends(noisy_digits: Dataset, mentor: str) -> None:
    train_a_little(TrialSettings(**CONFIG | {"mentor": mentor, "epochs": 1}), DeviceDataset(noisy_digits, "cpu"))
