from pathlib import Path

import pytest
import torch

from trainables.checkpoint import load_checkpoint, read_weights, save_checkpoint
from trainables.device import DeviceDataset
from trainables.settings import TrialSettings
from trainables.training import Trainer
from trainables.weights import BestWeights


def test_the_first_of_the_best_epochs_is_kept_as_it_was() -> None:
    best, weight = BestWeights(), torch.zeros(2)
    for epoch, accuracy in enumerate((0.2, 0.6, 0.6, 0.4), start=1):
        weight.fill_(epoch)
        best.update({"val_accuracy": accuracy, "epoch": epoch}, {"w": weight})
    assert best.metrics == {"val_accuracy": 0.6, "epoch": 2}
    assert best.weights["w"].tolist() == [2, 2]


def test_a_checkpoint_holds_the_best_epochs_weights_though_the_trial_continued(
    data: DeviceDataset, tmp_path: Path
) -> None:
    settings = TrialSettings(epochs=6, learning_rate=0.05, seed=3)
    trainer = Trainer(settings, data)
    measured = {}
    for epoch in range(1, 7):
        metrics = trainer.train_epoch()
        measured[epoch] = metrics["val_accuracy"], {name: w.clone() for name, w in trainer.weights().items()}
        if epoch == 4:  # a worker lost: the rest runs in another
            save_checkpoint(trainer, tmp_path / "four")
            trainer = Trainer(settings, data)
            load_checkpoint(trainer, tmp_path / "four")
    save_checkpoint(trainer, tmp_path / "six")
    best_epoch = max(measured, key=lambda epoch: measured[epoch][0])
    kept = read_weights(tmp_path / "six", "best")
    assert (kept.epoch, kept.metrics["val_accuracy"]) == (best_epoch, measured[best_epoch][0])
    torch.testing.assert_close(dict(kept.weights), measured[best_epoch][1], rtol=0, atol=0)
    assert read_weights(tmp_path / "six").metrics["val_accuracy"] == pytest.approx(measured[6][0])
