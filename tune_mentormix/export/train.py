"""Trains one exported configuration in full, without Ray; after an interruption, from its last checkpoint.

The folder that it writes can be evaluated and used like an export.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.data import Dataset
from trainables.device import find_device
from trainables.errors import (
    DatasetError,
    DeviceError,
    MissingPackageError,
    NetworkError,
    PluginError,
    TrainingDiverged,
    one_line,
)
from trainables.files import is_intact
from trainables.model_file import ModelDescription, ModelFile, write_model
from trainables.settings import DeviceName, TrialSettings
from trainables.training import Trainer, begin_training
from tune_mentormix.config.settings import FORMAT
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError, SearchFailedError
from tune_mentormix.experiment.provenance import DatasetFacts
from tune_mentormix.export.manifest import (
    CONFIG_FILE,
    MODEL_FILE,
    ModelRecord,
    environment_record,
    metric_records,
    write_provenance,
)
from tune_mentormix.export.read import ExportedConfig, load_exported_data
from tune_mentormix.storage.paths import write_atomically
from tune_mentormix.storage.yaml_files import read_yaml, write_yaml

LOGGER = logging.getLogger(__name__)

Report = dict[str, float]
TrainingProgress = Callable[[Report, int], None]  # gets each epoch's report, and the number of epochs in all
METRICS_FILE = "metrics.json"


def train_in_full(
    exported: ExportedConfig,
    out: Path,
    seed: int | None,
    progress: TrainingProgress,
    all_images: bool = False,
    device: DeviceName = "auto",
) -> Report:
    """Trains to the last epoch, leaves the weights in `out`, and returns the last epoch's report.

    `seed` replaces the configuration's own; `all_images` trains on the validation images too, and validates on none.
    Raises RequestError if the data are not those of the export, `out` holds another training, or the device is not
    there.
    """
    settings = exported.config if seed is None else _with_seed(exported.config, seed)
    dataset = load_exported_data(exported)
    if all_images:
        dataset = dataset.all_images()
    exported = exported.model_copy(update={"config": settings})
    try:
        find_device(device)
    except DeviceError as error:
        raise RequestError(f"{error} (--device)") from error
    _initialise_folder(out, exported, all_images)
    trainer = train_to_the_end(exported, dataset, out, progress, device)
    write_atomically(out / METRICS_FILE, json.dumps(trainer.metrics, indent=2) + "\n")
    write_model(out / MODEL_FILE, trained_model(trainer, dataset))
    write_provenance(out, _training_record(exported, trainer, dataset, all_images))
    return trainer.metrics


def _with_seed(config: TrialSettings, seed: int) -> TrialSettings:
    try:
        return TrialSettings.model_validate(config.model_dump() | {"seed": seed})
    except ValidationError as error:
        raise RequestError(f"{describe(error.errors()[0], TrialSettings)} (--seed)") from error


def train_to_the_end(
    exported: ExportedConfig,
    dataset: Dataset,
    folder: Path,
    progress: TrainingProgress,
    device: DeviceName = "auto",
) -> Trainer:
    """Trains to the last epoch, from the newest intact checkpoint in `folder`, where only the newest is kept.

    Images that stay on disk are decoded first, where that was not done. Raises SearchFailedError if the training
    diverges, RequestError if its network cannot be built or an image cannot be decoded.
    """
    try:
        if (note := dataset.prepare()) is not None:
            LOGGER.warning("%s", note)
        trainer = begin_training(exported.config, dataset, exported.threads, device)
    except (DatasetError, NetworkError, PluginError, MissingPackageError) as error:
        raise RequestError(str(error)) from error
    checkpoints = sorted(folder.glob("checkpoint-*"))
    whole = [folder for folder in checkpoints if is_intact(folder)]
    if whole:
        load_checkpoint(trainer, whole[-1])
    while trainer.epoch < exported.config.epochs:
        try:
            report = trainer.train_epoch()
        except TrainingDiverged as error:
            raise SearchFailedError(
                f"the training diverged: {error}; try another --seed, or a lower learning_rate in the configuration"
            ) from error
        checkpoints.append(folder / f"checkpoint-{trainer.epoch:06d}")
        save_checkpoint(trainer, checkpoints[-1])
        for old in checkpoints[:-1]:
            shutil.rmtree(old)
        del checkpoints[:-1]
        progress(report, exported.config.epochs)
    return trainer


def trained_model(trainer: Trainer, dataset: Dataset) -> ModelFile:
    """Returns the averaged weights with their description."""
    height, width, channels = dataset.train_images.shape[1:]
    description = ModelDescription(
        network=trainer.settings.network,
        class_names=dataset.class_names,
        input_shape=(height, width, channels),
        precision=trainer.settings.precision,
        epoch=trainer.epoch,
    )
    return ModelFile(description, trainer.weights())


def _initialise_folder(out: Path, exported: ExportedConfig, all_images: bool) -> None:
    """Writes the configuration into `out`, or checks that an earlier run wrote the same one."""
    config = out / CONFIG_FILE
    values = {"format": FORMAT, **exported.record()} | ({"all_images": True} if all_images else {})
    if config.is_file():
        if read_yaml(config).values != values:
            raise RequestError(f"{out} holds the training of another configuration; choose another --out")
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(config, values)
    except OSError as error:
        raise RequestError(f"cannot write to {out}: {one_line(error)} (--out)") from error


def _training_record(
    exported: ExportedConfig, trainer: Trainer, dataset: Dataset, all_images: bool
) -> dict[str, Any]:
    """Returns what `provenance.json` holds of a training in full, besides the files' digests."""
    model = ModelRecord(
        epoch=trainer.epoch,
        trained_on="all images" if all_images else "training split",
        val_accuracy=trainer.metrics.get("val_accuracy"),
    )
    return {
        "model": model.model_dump(),
        "metrics": metric_records(trainer.metrics, trainer.epoch, exported.labels),
        "dataset": exported.data.model_dump(mode="json") | DatasetFacts.of(dataset).model_dump(mode="json"),
        "plug_ins": exported.plug_ins,
        "seeds": {"trial": trainer.settings.seed, "data": exported.data.data_seed},
        "trained_with": environment_record(),
    }
