"""Images that stay on disk: decoded once into a file that all processes of a machine share, and read batch by batch.

`ImagesOnDisk` takes the place of an array of images where the data are larger than memory. It holds positions and no
pixels, so that it is small to copy and to send to other machines; what is indexed is read. Pixels are equal to those
of the array.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.errors import DatasetError, one_line
from trainables.files import atomic_path, locked_folder

Images = NDArray[np.uint8]
Positions = NDArray[np.int64]

DISK_FROM_BYTES = 2 * 10**9  # of decoded images, from which `images_in: auto` leaves them on disk
_CACHE_FORMAT = "1"  # change it with anything that changes the pixels
_IMAGES_PER_TASK = 64


class EncodedImages(Protocol):
    """Image files, or what holds them, in one order; small enough to be sent to another machine."""

    @property
    def encoded_bytes(self) -> NDArray[np.int64]:
        """[N]: the sizes of the encoded images."""

    @property
    def names(self) -> Sequence[str]:
        """N names, unique."""

    @property
    def key(self) -> str:
        """A text that changes with whatever may change the pixels."""

    def decode(self, position: int) -> Images:
        """Returns one image [H, W, C]; raises DatasetError with its name if it cannot be decoded."""

    def describe(self, position: int) -> str:
        """Names an image in a message."""


class StoredImages:
    """All images of one `EncodedImages`, read from their file of decoded images where this machine has it."""

    def __init__(self, encoded: EncodedImages, cache_dir: Path) -> None:
        """Decodes the first image, for its shape; `cache_dir` is where this machine keeps decoded images."""
        self.encoded, self.cache_dir = encoded, cache_dir
        self.image_shape: tuple[int, ...] = encoded.decode(0).shape  # [H, W, C]
        key = f"{_CACHE_FORMAT}\0{encoded.key}".encode()
        self.cached = cache_dir / f"images-{hashlib.sha256(key).hexdigest()[:32]}.npy"
        self._file: _DecodedFile | None = None

    def __getstate__(self) -> dict[str, object]:
        """An open file is not sent to another process."""
        return self.__dict__ | {"_file": None}

    def __len__(self) -> int:
        return len(self.encoded.names)

    def __getitem__(self, positions: Positions) -> Images:
        """Reads images [n, H, W, C]; decodes them if this machine has no file of decoded images."""
        if self._file is None and self.cached.exists():
            self._file = _DecodedFile(self.cached)
        if self._file is not None:
            return self._file.read(positions)
        images = np.empty((len(positions), *self.image_shape), np.uint8)
        for image, position in zip(images, positions.tolist(), strict=True):
            image[...] = self._decode(position)
        return images

    @property
    def nbytes(self) -> int:
        """Bytes of all images, decoded."""
        return len(self) * prod(self.image_shape)

    def read_all(self) -> Images:
        """Returns all images as one read-only memory-mapped array, decoded first if that was not done.

        Raises DatasetError if an image cannot be decoded, or the file of decoded images not be written or read.
        """
        free = self.prepare()
        if free is not None:
            raise DatasetError(
                f"cache_dir {self.cache_dir} has {free / 1e9:.1f} GB free, the decoded images need "
                f"{self.nbytes / 1e9:.1f} GB: set cache_dir elsewhere, or image_size or max_images smaller"
            )
        return _open(self.cached)

    def prepare(self) -> int | None:
        """Decodes all images into the file, which the first process does and others wait for.

        Returns the free bytes of the disk if they are too few, and decodes nothing then; else None. Raises
        DatasetError if an image cannot be decoded, or the file not be written.
        """
        if self.cached.exists():
            return None
        try:
            with locked_folder(self.cache_dir, self.cached.with_suffix(".lock").name, self.cached.name):
                free = shutil.disk_usage(self.cache_dir).free
                if not self.cached.exists():
                    if self.nbytes > free:
                        return free
                    for left in self.cache_dir.glob(f".{self.cached.name}.*.tmp"):  # by a process that was killed
                        left.unlink()
                    self._decode_all()
        except OSError as error:
            raise DatasetError(f"cache_dir {self.cache_dir} cannot be written to: {one_line(error)}") from error
        return None

    def _decode(self, position: int) -> Images:
        image = self.encoded.decode(position)
        if image.shape != self.image_shape:
            (height, width), (first_height, first_width) = image.shape[:2], self.image_shape[:2]
            raise DatasetError(
                "image_size must be set, for images differ in size: "
                f"{self.encoded.describe(0)} is {first_width}×{first_height}, "
                f"{self.encoded.describe(position)} is {width}×{height}"
            )
        return image

    def _decode_all(self) -> None:
        """Decodes all images into the file, which appears only when it is complete."""
        with atomic_path(self.cached) as temporary, temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(self), *self.image_shape)}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            first, size = file.tell(), prod(self.image_shape)

            def decode_some(start: int) -> None:
                images = [self._decode(place) for place in range(start, min(start + _IMAGES_PER_TASK, len(self)))]
                _write(file.fileno(), np.stack(images).data.cast("B"), first + start * size)

            with ThreadPoolExecutor(os.cpu_count()) as executor:  # Pillow decodes and resizes without the GIL
                for _ in executor.map(decode_some, range(0, len(self), _IMAGES_PER_TASK)):
                    pass  # raises what a task raised, and drops the tasks behind it


@dataclass(frozen=True)
class ImagesOnDisk:
    """Images [N, H, W, C] uint8, of which only those that are asked for are in memory."""

    sources: tuple[StoredImages | Images, ...]  # of one shape
    positions: Positions  # [N], counted over the sources one after another

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, key: int | slice | Positions) -> Images:
        """Reads one image [H, W, C] or several [n, H, W, C]."""
        if isinstance(key, int | np.integer):
            image: Images = self._read(self.positions[[key]])[0]
            return image
        return self._read(self.positions[key])

    @property
    def shape(self) -> tuple[int, ...]:
        """N, H, W, C."""
        return (len(self), *_image_shape(self.sources[0]))

    @property
    def nbytes(self) -> int:
        """Bytes of the images, decoded."""
        return prod(self.shape)

    def select(self, index: Positions) -> ImagesOnDisk:
        """Returns the images at these positions, unread."""
        return ImagesOnDisk(self.sources, self.positions[index])

    def digest(self) -> bytes:
        """Returns a digest of what identifies the images without reading them: names, encoded sizes and shape."""
        digest = hashlib.sha256(f"{self.shape}".encode())
        for source, inside, numbers in self._by_source(self.positions):
            digest.update(inside.tobytes())
            if isinstance(source, np.ndarray):
                digest.update(np.ascontiguousarray(source[numbers]).data)
            else:
                digest.update("\0".join(source.encoded.names[number] for number in numbers).encode())
                digest.update(source.encoded.encoded_bytes[numbers].tobytes())
        return digest.digest()

    @property
    def is_prepared(self) -> bool:
        """Whether all of them are decoded on this machine."""
        return all(isinstance(source, np.ndarray) or source.cached.exists() for source in self.sources)

    def prepare(self) -> str | None:
        """Decodes what is not decoded yet on this machine; returns in a sentence what could not be kept, if any.

        Raises DatasetError if an image cannot be decoded.
        """
        for source in self.sources:
            if isinstance(source, StoredImages) and (free := source.prepare()) is not None:
                return (
                    f"cache_dir {source.cache_dir} has {free / 1e9:.1f} GB free, and the decoded images need "
                    f"{source.nbytes / 1e9:.1f} GB: they are decoded in every epoch, which is slower"
                )
        return None

    def _read(self, numbers: Positions) -> Images:
        if len(self.sources) == 1:
            return self.sources[0][numbers]
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for source, inside, of_source in self._by_source(numbers):
            images[inside] = source[of_source]
        return images

    def _by_source(self, numbers: Positions) -> list[tuple[StoredImages | Images, Positions, Positions]]:
        """Returns for each source which of the numbers are its own, and what they are in it."""
        parts, first = [], 0
        for source in self.sources:
            inside = np.flatnonzero((numbers >= first) & (numbers < first + len(source)))
            parts.append((source, inside, numbers[inside] - first))
            first += len(source)
        return parts


AnyImages: TypeAlias = Images | ImagesOnDisk


def stored(encoded: EncodedImages, cache_dir: Path, images_in: str) -> AnyImages:
    """Returns images in memory or on disk: as `images_in` says, by their size with `auto`.

    In memory they are one read-only memory-mapped array of the file of decoded images.
    """
    images = StoredImages(encoded, cache_dir)
    if images_in == "disk" or (images_in == "auto" and images.nbytes >= DISK_FROM_BYTES):
        return ImagesOnDisk((images,), np.arange(len(images)))
    return np.asarray(images.read_all())


def in_memory(images: AnyImages) -> Images:
    """Returns images as an array; those on disk are read, all of them."""
    return images[:] if isinstance(images, ImagesOnDisk) else images


def select_images(images: AnyImages, index: Positions) -> AnyImages:
    """Returns the images at these positions: a copy of an array, or those on disk, unread."""
    return images.select(index) if isinstance(images, ImagesOnDisk) else np.asarray(images[index])


def join_images(first: AnyImages, second: AnyImages) -> AnyImages:
    """Returns two lots of images as one."""
    if not isinstance(first, ImagesOnDisk) and not isinstance(second, ImagesOnDisk):
        return np.concatenate([first, second])
    lots = [lot if isinstance(lot, ImagesOnDisk) else _on_disk(lot) for lot in (first, second)]
    if all(mine is theirs for mine, theirs in zip(lots[0].sources, lots[1].sources, strict=False)):
        longer = max(lots, key=lambda lot: len(lot.sources))
        return ImagesOnDisk(longer.sources, np.concatenate([lot.positions for lot in lots]))
    before = sum(len(source) for source in lots[0].sources)
    positions = np.concatenate([lots[0].positions, lots[1].positions + before])
    return ImagesOnDisk(lots[0].sources + lots[1].sources, positions)


class _DecodedFile:
    """A complete file of decoded images, open for reading; its pages never count as memory of the process."""

    def __init__(self, path: Path) -> None:
        images = _open(path)
        self._shape, self._first, self._size = images.shape[1:], images.offset, prod(images.shape[1:])
        self._path, self._file = path, path.open("rb", buffering=0)

    def read(self, positions: Positions) -> Images:
        """Reads images [n, H, W, C]; may be called by several threads."""
        images = np.empty((len(positions), self._size), np.uint8)
        for image, position in zip(images, positions.tolist(), strict=True):
            content = os.pread(self._file.fileno(), self._size, self._first + position * self._size)
            if len(content) < self._size:
                raise DatasetError(f"the decoded images {self._path} are damaged: delete that file")
            image[:] = np.frombuffer(content, np.uint8)
        return images.reshape((len(positions), *self._shape))


def _open(path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        images: np.memmap[tuple[int, ...], np.dtype[np.uint8]] = np.load(path, mmap_mode="r")
    except ValueError as error:
        raise DatasetError(f"the decoded images {path} are damaged: delete that file") from error
    return images


def _write(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _on_disk(images: Images) -> ImagesOnDisk:
    return ImagesOnDisk((images,), np.arange(len(images)))


def _image_shape(source: StoredImages | Images) -> tuple[int, ...]:
    return source.image_shape if isinstance(source, StoredImages) else source.shape[1:]
