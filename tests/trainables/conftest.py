"""What the tests of a trial share: reference values, and a small real dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainables.data import Dataset, load_dataset
from trainables.device import DeviceDataset
from trainables.settings import DataSettings

GOLDEN = Path(__file__).parents[1] / "golden"

GoldenValues = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="session")
def mentormix_reference() -> GoldenValues:
    return dict(np.load(GOLDEN / "mentormix_reference.npz"))


@pytest.fixture(scope="session")
def mentornet_pd_reference() -> GoldenValues:
    return dict(np.load(GOLDEN / "mentornet_pd_reference.npz"))


@pytest.fixture(scope="session")
def noisy_digits() -> Dataset:
    return load_dataset(DataSettings(dataset="digits", noise=0.4))


@pytest.fixture(scope="session")
def data(noisy_digits: Dataset) -> DeviceDataset:
    torch.set_num_threads(1)
    return DeviceDataset(noisy_digits, "cpu")
