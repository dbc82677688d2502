"""Every error that a trial raises on purpose; each message is one line: the setting, its value, what is allowed."""

from __future__ import annotations


class DatasetError(ValueError):
    """The data settings cannot be met: a file is missing, labels do not fit, a split is empty."""


class NetworkError(ValueError):
    """The network cannot be built: its name is unknown, or its pretrained weights are missing."""


class ModelFileError(ValueError):
    """A model file cannot be used: it is missing, damaged, foreign, or does not fit its network."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, corrupt, or of another kind of trial."""


class TrainingDiverged(RuntimeError):  # noqa: N818 - it names what happened
    """A loss is no longer a finite number."""


class StorageUnavailableError(OSError):
    """A storage could not be used until the retries ended; the trial that waited for it is not at fault."""


class MissingPackageError(RuntimeError):
    """A feature needs an optional package that is not installed; the message names it and how to install it."""


def one_line(error: BaseException) -> str:
    """Returns the reason of an error in one line: the system's own, or the first line of the message."""
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(reason).splitlines()[0][:300]
