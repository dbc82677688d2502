"""Folders of image files as a dataset source: listed, and each file decoded and brought to one size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.sources import Labels, Source, Split
from trainables.data.streaming import AnyImages, stored
from trainables.errors import DatasetError, one_line
from trainables.settings import DataSettings

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # ImageFolder's


def folder_source(settings: DataSettings, split: Split) -> Source:
    """The images of the folder `data_dir`, in ImageFolder's order: classes by name, then images by path.

    A folder needs no class folders if a label file names its images. Raises DatasetError if it is laid out otherwise.
    """
    image_names: list[str] = []
    labels: list[int] = []
    try:
        root = _root(settings, split)
        classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not classes and (settings.labels_file is None or split != "train"):
            raise DatasetError(
                f"{root} holds no class folders: put the images of each class into a folder named like it, or name "
                "the classes in a labels_file"
            )
        for label, folder in enumerate(classes or [root]):
            members = _list_images(folder, root)
            if not members:
                what = f"class folder {folder}" if classes else str(root)
                raise DatasetError(f"{what} holds no images ({', '.join(IMAGE_SUFFIXES)})")
            image_names += members
            labels += [label] * len(members)
    except OSError as error:
        raise DatasetError(f"cannot read {error.filename}: {one_line(error)}") from error

    def read_images(index: Labels) -> AnyImages:
        wanted = [image_names[position] for position in index]
        try:
            images = FolderImages.of(root, wanted, settings.image_size)
        except OSError as error:
            raise DatasetError(f"cannot read {error.filename}: {one_line(error)}") from error
        return stored(images, settings.cache_dir.expanduser(), settings.images_in)

    return Source(
        len(image_names),
        tuple(folder.name for folder in classes) or None,
        np.asarray(labels, dtype=np.int64) if classes else None,
        None,
        tuple(image_names),
        read_images,
    )


@dataclass(frozen=True)
class FolderImages:
    """Image files below a folder, brought to one size."""

    root: Path
    names: tuple[str, ...]  # N, relative to `root`
    image_size: int | None  # pixels of a side (see `read_image`); None: all have one size already, and keep it
    encoded_bytes: NDArray[np.int64]  # [N], of the files
    key: str  # also of where the files are, and when they were changed

    @classmethod
    def of(cls, root: Path, names: Sequence[str], image_size: int | None) -> FolderImages:
        """Looks at the N ≥ 1 files. Raises OSError if one is missing."""
        sizes, digest = [], hashlib.sha256(f"{image_size}\0{root.resolve()}\0".encode())
        for name in names:
            status = (root / name).stat()
            sizes.append(status.st_size)
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return cls(root, tuple(names), image_size, np.array(sizes, np.int64), digest.hexdigest())

    def decode(self, position: int) -> NDArray[np.uint8]:
        """Returns one image [H, W, 3], or raises DatasetError."""
        size = None if self.image_size is None else (self.image_size, self.image_size)
        return read_image(self.root / self.names[position], size)

    def describe(self, position: int) -> str:
        """Returns the path of an image."""
        return str(self.root / self.names[position])


def read_image(path: Path, size: tuple[int, int] | None, channels: int = 3) -> NDArray[np.uint8]:
    """Decodes one image file to [H, W, channels] uint8, or raises DatasetError.

    `size` is the height and width in pixels: the image is resized (bilinear, antialiased) until it just covers them,
    and the middle is kept. None: as it is. With 3 channels grey images are turned into RGB, with 1 colours into grey;
    transparency is dropped.
    """
    if path.exists() and not path.is_file():
        raise DatasetError(
            f"cannot read {path}: it is no file, but a folder, a pipe or a device"
        )  # reading a pipe would wait for ever
    return decode_image(path, str(path), size, channels)


def decode_image(
    file: Path | str | BinaryIO, name: str, size: tuple[int, int] | None, channels: int = 3
) -> NDArray[np.uint8]:
    """Decodes one encoded image as `read_image` does; `name` is what it is called in an error."""
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB" if channels == 3 else "L")
    except FileNotFoundError as error:
        raise DatasetError(f"cannot read {name}: {one_line(error)}") from error
    except Exception as error:  # a damaged file can raise almost anything in Pillow's decoders
        raise DatasetError(f"cannot decode {name}: {one_line(error)}") from error
    if size is not None and image.size != (size[1], size[0]):
        image = _resize_and_crop(image, *size)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _root(settings: DataSettings, split: Split) -> Path:
    """The folder of one split: `train/` and `test/` in `data_dir`, or `data_dir` itself where it has neither."""
    setting, data_dir = "data_dir", settings.data_dir
    if split == "clean_validation":
        setting, data_dir = "clean_validation", settings.clean_validation
    assert data_dir is not None  # the settings require it
    if not data_dir.is_dir():
        raise DatasetError(f"{setting} must be the folder of the images, got {data_dir}, which is no folder")
    if split == "clean_validation":
        return data_dir
    has_train, has_test = (data_dir / "train").is_dir(), (data_dir / "test").is_dir()
    if has_train and has_test:
        return data_dir / split
    if has_train or has_test:  # taken for a class, a test folder would leak into training
        there, missing = ("train", "test") if has_train else ("test", "train")
        raise DatasetError(f"data_dir {data_dir} has {there}/ but no {missing}/: give both, or the training folder")
    if split == "test":
        raise DatasetError(f"data_dir {data_dir} has no train/ and test/, so there are no images to test on")
    return data_dir


def _list_images(folder: Path, root: Path) -> list[str]:
    """Paths of the images below `folder`, relative to `root`, with forward slashes."""
    above = () if folder == root else (root.resolve(),)
    return [
        (Path(place).relative_to(root) / file).as_posix()
        for place, files in sorted(_image_files(folder, above))
        for file in sorted(files)
    ]


def _image_files(folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yields `folder` and the folders below, each with its image files; links to folders are followed.

    `above` are the true paths of the folders that led here. Raises DatasetError at a link to one of them, and at a
    name that is not UTF-8 or belongs to no file; OSError if a folder cannot be read.
    """
    path, files = folder.resolve(), []
    if any(place.is_relative_to(path) for place in above):
        raise DatasetError(f"{folder} links to a folder that holds it, so its images would count twice: remove it")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _image_files(Path(entry.path), (*above, path))
            elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                if not entry.is_file():
                    raise DatasetError(f"{entry.path} is not a file: remove it (a link to nothing, a pipe, a device)")
                files.append(entry.name)
    for name in (folder.name, *files):
        if name.encode(errors="replace") != os.fsencode(name):
            raise DatasetError(f"the name {name!r} in {str(folder)!r} is not UTF-8: rename it")
    yield str(folder), files


def _resize_and_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    scale = max(width / image.width, height / image.height)
    scaled_width, scaled_height = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    image = image.resize((scaled_width, scaled_height), Image.Resampling.BILINEAR)
    left, top = (scaled_width - width) // 2, (scaled_height - height) // 2
    return image.crop((left, top, left + width, top + height))
