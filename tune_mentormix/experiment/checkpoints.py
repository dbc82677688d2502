"""The checkpoints of an experiment's trials: the newest that is intact, and what the driver reads from one."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import one_line
from trainables.files import ARRAYS, MANIFEST_FILE, is_intact
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.trial import Trial
from tune_mentormix.storage.paths import Location, StorageError

if TYPE_CHECKING:  # NumPy is imported where probabilities are read
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

CHECKPOINTS_KEPT = 2  # of a trial: should the newest be truncated, the one before it is intact


def newest_checkpoint(experiment: Experiment, trial: Trial) -> str | None:
    """Returns the newest intact checkpoint of a trial: its folder, or its URI on an object store.

    Raises StorageError if the storage cannot be read now.
    """
    for epoch, path in reversed(trial.checkpoints):
        folder = experiment.path.resolve() / path
        try:
            intact = is_intact(folder) if isinstance(folder, Path) else _is_uploaded(folder)
            if intact and _belongs(folder, trial.number, epoch):
                return str(folder)
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"{folder} cannot be read: {one_line(error)}") from error
    return None


def _belongs(folder: Location, trial: int, epoch: int) -> bool:
    """Whether an intact checkpoint is of this trial and epoch; those of version 0.1.0 do not tell."""
    recorded = json.loads((folder / MANIFEST_FILE).read_text())
    found = recorded.get("trial", trial), recorded.get("epoch", epoch)
    if found != (trial, epoch):
        logger.warning(
            "%s is not used: it is the checkpoint of trial %s, epoch %s, and should be of trial %s, epoch %s",
            *(folder, *found, trial, epoch),
        )
    return bool(found == (trial, epoch))


def _is_uploaded(folder: Location) -> bool:
    """Whether a checkpoint was uploaded to its last byte; its digests are compared after the download."""
    try:
        recorded = json.loads((folder / MANIFEST_FILE).read_text())
        files = [recorded, *(recorded[key] for key in ARRAYS if key in recorded)]
        return all(file["bytes"] == (folder / file["file"]).stat().st_size for file in files)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def validation_probabilities(experiment: Experiment, trial: Trial) -> NDArray[np.float16] | None:
    """Reads the probabilities [M, K] of a trial's last epoch on the validation images, from its checkpoint.

    None where there are none: checkpoints of earlier versions, deleted ones and, with a warning, damaged ones. Raises
    StorageError if they cannot be read now: without them a result would be less exact, and nobody would know why.
    """
    return _array(experiment, trial, "probabilities")


def example_weights(experiment: Experiment, trial: Trial) -> NDArray[np.float16] | None:
    """Reads how much the mentor let each training image [N] count after burn-in, from a trial's last checkpoint.

    NaN for an image that was in no batch. None where there are none, as with plain training and in checkpoints of
    earlier versions, and with a warning where they are damaged. Raises StorageError if they cannot be read now.
    """
    return _array(experiment, trial, "example_weights")


def _array(experiment: Experiment, trial: Trial, key: str) -> NDArray[np.float16] | None:
    """Reads one of `ARRAYS` beside the state of a trial's last epoch."""
    paths = [path for epoch, path in trial.checkpoints if epoch == trial.epoch]
    for folder in (experiment.path / path for path in reversed(paths)):
        try:
            array = _read_array(folder, trial, key)
        except (FileNotFoundError, NotADirectoryError):
            continue  # the checkpoint was deleted, or is incomplete
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"cannot read {error.filename or folder}: {one_line(error)}") from error
        if array is not None:
            return array
    return None


def _read_array(folder: Location, trial: Trial, key: str) -> NDArray[np.float16] | None:
    """Reads one of `ARRAYS` of a checkpoint; None, with a warning, if it is damaged. Raises OSError."""
    import numpy as np

    file, manifest = folder / ARRAYS[key], folder / MANIFEST_FILE
    try:
        recorded = json.loads(manifest.read_text())
        if key not in recorded or not _belongs(folder, trial.number, trial.epoch):
            return None
        if not file.exists():
            _warn_of_damage(str(file), "it is missing")
            return None
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() == recorded[key]["sha256"]:
            array: NDArray[np.float16] = np.load(io.BytesIO(content), allow_pickle=False)
            return array
        _warn_of_damage(str(file), "it is not the file that was written")
    except (ValueError, KeyError, TypeError, AttributeError):
        _warn_of_damage(str(manifest), "it is no manifest of a checkpoint")
    return None


@functools.cache
def _warn_of_damage(file: str, reason: str) -> None:
    """Warns once of each file, which may be read several times."""
    logger.warning("%s cannot be used: %s; what is computed without it is less exact", file, reason)
