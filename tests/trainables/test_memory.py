"""A trial needs as much memory at its end as it did at its beginning."""

from __future__ import annotations

import psutil
import pytest

from trainables.data import load_dataset
from trainables.device import DeviceDataset
from trainables.settings import DataSettings, TrialSettings
from trainables.training import Trainer

pytestmark = pytest.mark.slow

EPOCHS = 200
SETTLED = 20  # epochs after which everything that is made once is there
ALLOWED_GROWTH = 2e6  # bytes; the graph of one loss an epoch, without its activations, is 4.5 million


@pytest.mark.parametrize("second_reweight", [False, True])
def test_the_memory_of_a_trial_does_not_grow_over_200_epochs(second_reweight: bool) -> None:
    data = DeviceDataset(load_dataset(DataSettings(dataset="digits", noise=0.4, max_images=160)), "cpu")
    settings = TrialSettings(epochs=EPOCHS, batch_size=64, second_reweight=second_reweight, augmentation="cutout")
    trainer = Trainer(settings, data)
    sizes = []
    for _ in range(EPOCHS):
        trainer.train_epoch()
        sizes.append(psutil.Process().memory_info().rss)

    assert max(sizes) - max(sizes[:SETTLED]) < ALLOWED_GROWTH
