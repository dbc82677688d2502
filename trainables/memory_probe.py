"""What a trial takes of a GPU's memory, measured: a few steps of the real training on the real data."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from trainables.datasets import Dataset
from trainables.settings import TrialSettings
from trainables.training import EVALUATION_BATCH, DeviceDataset, Trainer

STEPS = 5  # the first makes the momentum and tries out kernels; the others show what stays


class MemoryUse(NamedTuple):
    """Of one process on one GPU, in bytes."""

    peak: int  # reserved by torch at the worst moment, and what lies outside of it: the CUDA context, libraries
    total: int  # the GPU's
    device: str  # its name


def measure_memory(configs: list[dict[str, Any]], dataset: Dataset, threads: int) -> MemoryUse | None:
    """Trains each configuration a little and takes the largest peak.

    Whatever another process holds on the GPU counts as this one's, which errs on the safe side. A configuration that
    does not fit takes the whole GPU.

    Args:
        configs: fields of `TrialSettings`, one after another in this process.
        dataset: copied to the GPU whole, as every trial does.
        threads: of torch on the host.

    Returns:
        What a trial takes; None where there is no GPU that torch can use.
    """
    if not torch.cuda.is_available():
        return None
    torch.set_num_threads(threads)
    device = torch.cuda.get_device_name()
    _, total = torch.cuda.mem_get_info()
    try:
        data = DeviceDataset(dataset, "cuda")
        reserved = max(_peak_reserved(TrialSettings(**config), data) for config in configs)
    except torch.OutOfMemoryError:
        return MemoryUse(total, total, device)
    free, _ = torch.cuda.mem_get_info()
    outside = total - free - torch.cuda.memory_reserved()
    return MemoryUse(min(reserved + outside, total), total, device)


def train_a_little(settings: TrialSettings, data: DeviceDataset) -> None:
    """Everything in an epoch that takes memory, once burn-in is over: steps, evaluation, the best epoch's weights."""
    trainer = Trainer(settings.model_copy(update={"burn_in": 0.0}), data)
    for step in range(STEPS):
        trainer.train_step(step, torch.arange(settings.batch_size, device=data.device))
    evaluated = slice(2 * EVALUATION_BATCH)
    score = trainer.evaluate(data.validation_images[evaluated], data.validation_labels[evaluated])
    trainer.best.note({"val_accuracy": score.accuracy}, trainer.weights())
    if data.device.type == "cuda":
        torch.cuda.synchronize()  # before the trainer, and with it the memory, is let go


def _peak_reserved(settings: TrialSettings, data: DeviceDataset) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train_a_little(settings, data)
    return torch.cuda.max_memory_reserved()
