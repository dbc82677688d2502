"""Images decoded once: a memory-mapped uint8 array on disk that every process of a machine shares.

The array is named after what it was made from (paths, sizes, modification times, image size), so a changed folder is
decoded again and an unchanged one never is. It appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from trainables.errors import DatasetError
from trainables.image_files import read_image

_FORMAT = "1"  # change it with anything that changes the pixels
_IMAGES_PER_TASK = 64


def decoded_images(root: Path, names: Sequence[str], image_size: int | None, cache_dir: Path) -> NDArray[np.uint8]:
    """The images as one read-only memory-mapped array, decoded by the first process that asks for them.

    Args:
        root: the folder the names are relative to.
        names: N ≥ 1 image files, in the order wanted.
        image_size: side in pixels; the shorter side of an image is resized to it (bilinear, antialiased) and the
            middle kept. None: the images have one size already, and keep it.
        cache_dir: where decoded arrays are kept; made if it is not there.

    Returns:
        [N, H, W, 3] uint8; grey images are turned into RGB, transparency is dropped.

    Raises:
        DatasetError: if an image cannot be decoded, the sizes differ and `image_size` is None, or the cache cannot be
            written to or read.
    """
    cached = cache_dir / f"images-{_key(root, names, image_size)}.npy"
    if not cached.exists():
        lock = FileLock(cached.with_suffix(".lock"))  # the others wait for the one that decodes
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise DatasetError(f"cache_dir {cache_dir} cannot be written to: {error.strerror}") from error
        try:
            if not cached.exists():
                _decode_into(cached, root, names, image_size)
        finally:
            lock.release()
    try:
        images: NDArray[np.uint8] = np.load(cached, mmap_mode="r")
    except ValueError as error:
        raise DatasetError(f"the cached images {cached} are damaged: delete that file") from error
    return images


def _key(root: Path, names: Sequence[str], image_size: int | None) -> str:
    digest = hashlib.sha256(f"{_FORMAT}\0{image_size}\0{root.resolve()}\0".encode())
    for name in names:
        status = (root / name).stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def _decode_into(cached: Path, root: Path, names: Sequence[str], image_size: int | None) -> None:
    """Decode all images into a file beside `cached`, which takes that name when it is whole."""
    size = None if image_size is None else (image_size, image_size)
    first = read_image(root / names[0], size)
    _check_free_space(cached.parent, first.nbytes * len(names))
    unfinished = cached.with_suffix(f".{os.getpid()}.unfinished")
    try:
        images = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (len(names), *first.shape))

        def decode_some(start: int) -> None:
            for position in range(start, min(start + _IMAGES_PER_TASK, len(names))):
                image = read_image(root / names[position], size)
                if image.shape != first.shape:
                    raise DatasetError(
                        f"image_size must be set, for images differ in size: {root / names[0]} is {_size(first)}, "
                        f"{root / names[position]} is {_size(image)}"
                    )
                images[position] = image

        with ThreadPoolExecutor(os.cpu_count()) as executor:  # Pillow decodes and resizes without the GIL
            for _ in executor.map(decode_some, range(0, len(names), _IMAGES_PER_TASK)):
                pass  # raises what a task raised, and drops the tasks behind it
        images.flush()
        unfinished.replace(cached)
    finally:
        unfinished.unlink(missing_ok=True)


def _check_free_space(folder: Path, needed: int) -> None:
    """Refuse before writing: a memory-mapped file on a full disk ends the process with SIGBUS."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"cache_dir {folder} has {free / 1e9:.1f} GB free, the decoded images need {needed / 1e9:.1f} GB: "
            "set cache_dir elsewhere, or image_size or max_images smaller"
        )


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
