"""Arrays in memory become a file that the dataset `arrays` reads: one for equal arrays, named by their digest.

The files lie in a folder of the storage, beside the experiments that use them, so that a search can be resumed when
the arrays are no longer in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import one_line
from trainables.files import atomic_path
from tune_mentormix.errors import RequestError, unknown

ARRAYS_FOLDER = ".arrays"  # of a storage; no experiment can have this name
REQUIRED, OPTIONAL = ("images", "labels"), ("clean_labels", "test_images", "test_labels", "class_names")
CHANNELS = (1, 3)  # of grey images and of colour images


def store_arrays(storage: Path, arrays: Mapping[str, Any]) -> tuple[Path, bool]:
    """Writes arrays to a file of the storage, unless it has them already.

    Args:
        storage: the folder that holds the experiments.
        arrays: `images` and `labels`, and what else the dataset `arrays` reads; NumPy's, torch's or nested lists.

    Returns:
        The file, and whether it is new.

    Raises:
        RequestError: if an array is missing or unknown, images are neither uint8 nor floats in [0, 1], or the file
            cannot be written.
    """
    converted = {name: _converted(name, values) for name, values in arrays.items()}
    missing = next((name for name in REQUIRED if name not in converted), None)
    if missing:
        raise RequestError(f"dataset has no array {missing!r}: give (images, labels), or both by name")
    path = (storage / ARRAYS_FOLDER / f"{_digest(converted)}.npz").absolute()
    if path.is_file():
        return path, False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **converted)  # type: ignore[arg-type]  # NumPy's stubs allow no name but `allow_pickle`
    except OSError as error:
        raise RequestError(f"storage {storage} cannot be written: {one_line(error)} (--storage)") from error
    return path, True


def as_images(values: Any, name: str = "images") -> NDArray[np.uint8]:
    """Converts an array to images [N, H, W, C] uint8, C 1 or 3.

    Takes [N, H, W], [N, H, W, C] and torch's [N, C, H, W]; uint8, or floats in [0, 1], which are rounded to 256
    levels. Raises RequestError, with what is allowed, for anything else.
    """
    images = _as_array(name, values)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    elif images.ndim == 4 and images.shape[1] in CHANNELS and images.shape[3] not in CHANNELS:
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in CHANNELS or 0 in images.shape:
        raise RequestError(
            f"{name} must be of shape [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels, got "
            f"{list(np.shape(values))}"
        )
    if images.dtype.kind == "f" and bool(((images >= 0) & (images <= 1)).all()):
        images = np.rint(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        lowest, highest = (f"{value:g}" for value in (images.min(), images.max()))
        raise RequestError(
            f"{name} must be uint8, or floats in [0, 1], got {images.dtype} from {lowest} to {highest}: scale them"
        )
    return np.ascontiguousarray(images)


def _converted(name: str, values: Any) -> NDArray[Any]:
    if name not in REQUIRED + OPTIONAL:
        raise RequestError(unknown("array of dataset", name, REQUIRED + OPTIONAL))
    if name.endswith("images"):
        return as_images(values, name)
    return np.ascontiguousarray(_as_array(name, values))


def _as_array(name: str, values: Any) -> NDArray[Any]:
    """Returns a NumPy array, also of a tensor that is on a GPU or has gradients. Raises RequestError."""
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{name} cannot be read as an array: {one_line(error)}") from error
    if array.dtype.hasobject:
        raise RequestError(f"{name} must be an array of numbers or texts of equal shape, got Python objects")
    return array


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(array.tobytes() if array.dtype.kind == "U" else array.data)
    return digest.hexdigest()
