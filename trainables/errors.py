"""The errors a user can cause and mend; each message is one line: the setting, its value, what is allowed."""

from __future__ import annotations


class DatasetError(ValueError):
    """The data settings cannot be met: a file is missing, labels do not fit, a part is empty."""


class NetworkError(ValueError):
    """The network cannot be built: nobody knows it, or its pretrained weights are not at hand."""


class ModelFileError(ValueError):
    """A model file cannot be used: it is missing, damaged, foreign, or does not fit its network."""


class MissingPackageError(RuntimeError):
    """What was asked for needs an optional package that is not installed; the message says which and how."""
