"""The accuracy of a trial's final weights on images that the trial never saw."""

from __future__ import annotations

from typing import Any

import torch

from trainables.checkpoints import load_checkpoint
from trainables.datasets import Dataset
from trainables.settings import TrialSettings
from trainables.sources import Images, Labels
from trainables.stored_checkpoint import local_copy
from trainables.training import begin_training


def final_accuracy(
    config: dict[str, Any], dataset: Dataset, checkpoint: str | None, images: Images, labels: Labels, threads: int
) -> float:
    """Measures the weights a trial ends with, averaged as they are for validation.

    Epochs that the checkpoint lacks, because the driver died between the last report and the last checkpoint,
    are trained again: on a CPU they end in the same weights.

    Args:
        config: the fields of `TrialSettings`.
        dataset: what the trial trained on.
        checkpoint: the folder or the URI of its newest one; None where there is none.
        images: [N, H, W, C] uint8.
        labels: [N] int64.
        threads: of torch on a CPU.

    Returns:
        Share of the images, 0 … 1.

    Raises:
        CheckpointError: if the checkpoint does not fit the trial.
    """
    trainer = begin_training(TrialSettings(**config), dataset, threads)
    if checkpoint is not None:
        with local_copy(checkpoint) as folder:
            load_checkpoint(trainer, folder)
    while trainer.epoch < trainer.settings.epochs:
        trainer.train_epoch()
    device = trainer.data.device
    return trainer.evaluate(torch.tensor(images, device=device), torch.tensor(labels, device=device)).accuracy
