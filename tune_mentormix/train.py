"""One exported configuration trained in full, without Ray; interrupted, it goes on from its last checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from trainables.checkpoints import is_whole, load_checkpoint, save_checkpoint
from trainables.datasets import DatasetError, load_dataset
from trainables.training import DeviceDataset, Trainer
from tune_mentormix.errors import RequestError
from tune_mentormix.export import ExportedConfig
from tune_mentormix.yaml_files import read_yaml, write_atomically, write_yaml

Report = dict[str, float]


def train_in_full(
    exported: ExportedConfig, out: Path, seed: int | None, progress: Callable[[Report, int], None]
) -> Report:
    """Trains to the last epoch.

    Args:
        exported: the configuration, its data and their fingerprint.
        out: the folder for `config.yaml`, `metrics.jsonl` and the checkpoint.
        seed: instead of the configuration's own.
        progress: called with each epoch's report and the number of epochs in all.

    Returns:
        The last epoch's report; its accuracy is on the validation split.

    Raises:
        RequestError: if the data are not those of the export, or `out` holds another training.
    """
    settings = exported.config if seed is None else exported.config.model_copy(update={"seed": seed})
    try:
        dataset = load_dataset(exported.data)
    except DatasetError as error:
        raise RequestError(str(error)) from error
    if dataset.fingerprint != exported.fingerprint:
        raise RequestError("the data are not those the configuration was found on (their fingerprints differ)")
    _claim(out, exported.model_copy(update={"config": settings}))
    torch.set_num_threads(exported.threads)
    trainer = Trainer(settings, DeviceDataset(dataset, "cuda" if torch.cuda.is_available() else "cpu"))
    checkpoints = sorted(out.glob("checkpoint-*"))
    whole = [folder for folder in checkpoints if is_whole(folder)]
    if whole:
        load_checkpoint(trainer, whole[-1])
    while trainer.epoch < settings.epochs:
        report = trainer.train_epoch()
        checkpoints.append(out / f"checkpoint-{trainer.epoch:06d}")
        save_checkpoint(trainer, checkpoints[-1])
        for old in checkpoints[:-1]:
            shutil.rmtree(old)
        del checkpoints[:-1]
        progress(report, settings.epochs)
    write_atomically(out / "metrics.json", json.dumps(trainer.metrics, indent=2) + "\n")
    return trainer.metrics


def _claim(out: Path, exported: ExportedConfig) -> None:
    """Writes what is trained into `out`, or checks that the same is being trained there already."""
    config = out / "config.yaml"
    values = exported.model_dump(mode="json")
    if config.is_file():
        if read_yaml(config).values != values:
            raise RequestError(f"{out} holds the training of another configuration; choose another --out")
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(config, values)
    except OSError as error:
        raise RequestError(f"cannot write to {out}: {error.strerror} (--out)") from error
