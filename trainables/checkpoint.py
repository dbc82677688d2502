"""Checkpoints of a trial: a trainer's whole state saved to a folder and restored from it.

Files are written atomically, and read without executing anything in them (`weights_only`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainables.errors import CheckpointError, one_line
from trainables.files import (
    EXAMPLE_WEIGHTS_FILE,
    PROBABILITIES_FILE,
    STATE_FILE,
    is_intact,
    retry_with_backoff,
    write_checkpoint,
)
from trainables.training import Trainer

Which = Literal["last", "best"]


class TrainedWeights(NamedTuple):
    """The network's weights in a checkpoint, as evaluation uses them, and their metrics."""

    weights: dict[str, Tensor]  # trained ones averaged, running statistics as they are
    metrics: dict[str, float]  # of that epoch, as `Trainer.train_epoch` reports them
    epoch: int


def save_checkpoint(trainer: Trainer, folder: Path, identity: Mapping[str, int] | None = None) -> None:
    """Writes the trainer's state to `folder`, which is created if missing. Raises OSError.

    `identity` are the trial's numbers in its search. Beside the state lie the validation probabilities of the last
    epoch and the mean weights of the training images, which the driver of a search reads without torch.
    """
    writers: dict[str, Callable[[BinaryIO], object]] = {
        STATE_FILE: lambda file: _write_state(trainer.state_dict(), file)
    }
    if trainer.validation is not None:
        probabilities = trainer.validation.probabilities.cpu().numpy()
        writers[PROBABILITIES_FILE] = lambda file: np.save(file, probabilities)
    weights = trainer.example_weights.mean()
    if weights is not None:
        mean_weights = weights.half().cpu().numpy()
        writers[EXAMPLE_WEIGHTS_FILE] = lambda file: np.save(file, mean_weights)
    write_checkpoint(folder, writers, {**(identity or {}), "epoch": trainer.epoch})


def load_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Restores the trainer's state from `folder`.

    Raises CheckpointError if there is no intact checkpoint or it does not fit the trainer's network, and OSError if
    the folder cannot be read now.
    """
    state = _read_state(folder)
    try:
        trainer.load_state_dict(state)
    except Exception as error:
        raise CheckpointError(f"the checkpoint in {folder} does not fit this trial: {error}") from error


def read_weights(folder: Path, which: Which = "last") -> TrainedWeights:
    """Reads the averaged weights in `folder`, which needs neither the trainer nor the data.

    They are those of the last epoch, or of the one with the highest validation accuracy so far. Raises
    CheckpointError if there is no intact checkpoint, or it cannot be read now.
    """
    try:
        state = _read_state(folder)
    except OSError as error:
        raise CheckpointError(f"the checkpoint in {folder} cannot be read: {one_line(error)}") from error
    try:
        if which == "best":
            best = state["best"]
            return TrainedWeights(best["weights"], best["metrics"], best["metrics"]["epoch"])
        return TrainedWeights({**state["network"], **state["average"]}, state["metrics"], state["epoch"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the checkpoint in {folder} holds no trial: {error}") from error


@contextmanager
def local_copy(checkpoint: str) -> Iterator[Path]:
    """Yields the folder of a checkpoint, or a temporary copy if it is a URI. Raises StorageUnavailableError."""
    if "://" not in checkpoint:
        yield Path(checkpoint)
        return
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
        retry_with_backoff(lambda: _download(checkpoint, folder))
        yield Path(folder)


def _write_state(state: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error  # torch's own error does not contain the reason
        raise


def _read_state(folder: Path) -> Any:
    if not is_intact(folder):
        raise CheckpointError(f"no intact checkpoint in {folder}")
    try:
        return torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise CheckpointError(f"the checkpoint in {folder} holds no trial: {one_line(error)}") from error


def _download(uri: str, folder: str) -> None:
    from pyarrow.fs import FileSystem, copy_files  # only for object stores

    filesystem, path = FileSystem.from_uri(uri)
    copy_files(path, folder, source_filesystem=filesystem)
