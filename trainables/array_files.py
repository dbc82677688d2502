"""Arrays and labels from `.npy` and `.npz` files, read without executing anything and checked before use."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from trainables.errors import DatasetError


def open_npz(path: Path) -> NpzFile:
    """An `.npz` file whose arrays are read one by one, as `read_array` asks for them.

    Raises:
        DatasetError: if there is no such file, or it is no `.npz`.
    """
    try:
        arrays = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"cannot read {path}: {_reason(error)}") from error
    if not isinstance(arrays, NpzFile):
        raise DatasetError(f"cannot read {path}: not an .npz file")
    return arrays


def read_array(arrays: NpzFile, key: str, path: Path) -> NDArray[np.generic]:
    """One array of an open `.npz` file.

    Raises:
        DatasetError: if it is not there, is damaged, or holds Python objects, which only a pickle could.
    """
    if key not in arrays:
        raise DatasetError(f"{path} has no array {key!r}; it has {', '.join(sorted(arrays))}")
    try:
        array: NDArray[np.generic] = arrays[key]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"cannot read {key!r} in {path}: {_reason(error)}") from error
    return array


def read_npy(path: Path) -> NDArray[np.generic]:
    """The array of an `.npy` file.

    Raises:
        DatasetError: if there is no such file, it is no `.npy`, or it holds Python objects.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"cannot read {path}: {_reason(error)}") from error
    if not isinstance(array, np.ndarray):
        raise DatasetError(f"cannot read {path}: not an .npy file")
    return array


def as_labels(array: NDArray[np.generic], where: str) -> NDArray[np.int64]:
    """Integers of any width as [N] int64 labels.

    Args:
        array: what a file held.
        where: names the array in the error.

    Raises:
        DatasetError: if it is not one-dimensional, is empty, or does not hold integers.
    """
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) == 0:
        raise DatasetError(f"{where} must be integers of shape [N], got {array.dtype} of shape {list(array.shape)}")
    return array.astype(np.int64)


def check_label_range(labels: NDArray[np.int64], class_names: tuple[str, ...], where: str) -> None:
    """Refuse labels that are no class.

    Raises:
        DatasetError: naming the first label outside [0, K) and its position.
    """
    outside = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(outside) > 0:
        raise DatasetError(
            f"{where} has label {labels[outside[0]]} at position {outside[0]}, but there are {len(class_names)} "
            f"classes, 0 to {len(class_names) - 1}"
        )


def _reason(error: Exception) -> str:
    """The error on one line; a file that is missing says so without its path, which the message has already."""
    return str((isinstance(error, OSError) and error.strerror) or error).splitlines()[0]
