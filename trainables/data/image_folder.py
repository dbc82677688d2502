"""Folders of image files as a dataset source: listed, decoded once into a cache, brought to one size."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.sources import Images, Labels, Source, Split
from trainables.errors import DatasetError, one_line
from trainables.files import atomic_path, locked_folder
from trainables.settings import DataSettings

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # ImageFolder's
_CACHE_FORMAT = "1"  # change it with anything that changes the pixels
_IMAGES_PER_TASK = 64


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

    def read_images(index: Labels) -> Images:
        wanted = [image_names[position] for position in index]
        return decoded_images(root, wanted, settings.image_size, settings.cache_dir.expanduser())

    return Source(
        len(image_names),
        tuple(folder.name for folder in classes) or None,
        np.asarray(labels, dtype=np.int64) if classes else None,
        None,
        tuple(image_names),
        read_images,
    )


def decoded_images(root: Path, names: Sequence[str], image_size: int | None, cache_dir: Path) -> NDArray[np.uint8]:
    """Returns the images as one read-only memory-mapped array, which the first process decodes and others wait for.

    It is [N, H, W, 3] uint8, in the order of the N ≥ 1 names, which are relative to `root`. `image_size` is the side
    in pixels (see `read_image`); None: the images have one size already, and keep it. Raises DatasetError if an image
    cannot be decoded, sizes differ without an `image_size`, or the cache cannot be written to or read.
    """
    cached = cache_dir / f"images-{_key(root, names, image_size)}.npy"
    if not cached.exists():
        try:
            with locked_folder(cache_dir, cached.with_suffix(".lock").name, cached.name):
                if not cached.exists():
                    _decode_into(cached, root, names, image_size)
        except OSError as error:
            raise DatasetError(f"cache_dir {cache_dir} cannot be written to: {one_line(error)}") from error
    try:
        images: NDArray[np.uint8] = np.load(cached, mmap_mode="r")
    except ValueError as error:
        raise DatasetError(f"the cached images {cached} are damaged: delete that file") from error
    return images


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
    try:
        with Image.open(path) as file:
            image = file.convert("RGB" if channels == 3 else "L")
    except FileNotFoundError as error:
        raise DatasetError(f"cannot read {path}: {one_line(error)}") from error
    except Exception as error:  # a damaged file can raise almost anything in Pillow's decoders
        raise DatasetError(f"cannot decode {path}: {one_line(error)}") from error
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


def _key(root: Path, names: Sequence[str], image_size: int | None) -> str:
    digest = hashlib.sha256(f"{_CACHE_FORMAT}\0{image_size}\0{root.resolve()}\0".encode())
    for name in names:
        status = (root / name).stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def _decode_into(cached: Path, root: Path, names: Sequence[str], image_size: int | None) -> None:
    """Decodes all images into the cache file, which appears only when it is complete."""
    size = None if image_size is None else (image_size, image_size)
    first = read_image(root / names[0], size)
    _check_free_space(cached.parent, first.nbytes * len(names))
    with atomic_path(cached) as temporary:
        images = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(names), *first.shape))

        def decode_some(start: int) -> None:
            for position in range(start, min(start + _IMAGES_PER_TASK, len(names))):
                image = read_image(root / names[position], size)
                if image.shape != first.shape:
                    raise DatasetError(
                        "image_size must be set, for images differ in size: "
                        f"{root / names[0]} is {first.shape[1]}×{first.shape[0]}, "
                        f"{root / names[position]} is {image.shape[1]}×{image.shape[0]}"
                    )
                images[position] = image

        with ThreadPoolExecutor(os.cpu_count()) as executor:  # Pillow decodes and resizes without the GIL
            for _ in executor.map(decode_some, range(0, len(names), _IMAGES_PER_TASK)):
                pass  # raises what a task raised, and drops the tasks behind it
        images.flush()


def _check_free_space(folder: Path, needed: int) -> None:
    """Raises DatasetError before writing: a memory-mapped file on a full disk ends the process with SIGBUS."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"cache_dir {folder} has {free / 1e9:.1f} GB free, the decoded images need {needed / 1e9:.1f} GB: "
            "set cache_dir elsewhere, or image_size or max_images smaller"
        )


def _resize_and_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    scale = max(width / image.width, height / image.height)
    scaled_width, scaled_height = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    image = image.resize((scaled_width, scaled_height), Image.Resampling.BILINEAR)
    left, top = (scaled_width - width) // 2, (scaled_height - height) // 2
    return image.crop((left, top, left + width, top + height))
