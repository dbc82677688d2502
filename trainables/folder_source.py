"""Folders of images, laid out as torchvision's ImageFolder reads them: one folder a class, or no classes at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from trainables.errors import DatasetError
from trainables.folder_cache import decoded_images
from trainables.settings import DataSettings
from trainables.sources import Images, Labels, Source, Split

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # ImageFolder's


def folder_source(settings: DataSettings, split: Split) -> Source:
    """The images of a folder, in ImageFolder's order: classes by name, then images by path.

    A folder without class folders will do where a label file names its images.

    Raises:
        DatasetError: if the folder is not there or not laid out so.
    """
    root = _root(settings, split)
    if any(_class_folders(root)):
        image_names, labels, class_names = _list_classes(root)
    elif settings.labels_file is not None and split == "train":
        image_names, labels, class_names = _list_images(root, root), None, None
    else:
        raise DatasetError(f"{root} holds no class folders")
    if not image_names:
        raise DatasetError(f"{root} holds no images ({', '.join(IMAGE_SUFFIXES)})")

    def read_images(index: Labels) -> Images:
        wanted = [image_names[position] for position in index]
        return decoded_images(root, wanted, settings.image_size, settings.cache_dir.expanduser())

    return Source(len(image_names), class_names, labels, None, tuple(image_names), read_images)


def _root(settings: DataSettings, split: Split) -> Path:
    """The folder of one split: `train/` and `test/` in `data_dir`, or `data_dir` itself where it has neither."""
    if split == "clean_validation":
        assert settings.clean_validation is not None  # the caller looked
        return _existing_folder(settings.clean_validation, "clean_validation")
    assert settings.data_dir is not None  # the settings see to it
    data_dir = _existing_folder(settings.data_dir, "data_dir")
    has_train, has_test = (data_dir / "train").is_dir(), (data_dir / "test").is_dir()
    if has_train and has_test:
        return data_dir / split
    if has_train or has_test:  # taken for a class, a test folder would leak into training
        there, missing = ("train", "test") if has_train else ("test", "train")
        raise DatasetError(f"data_dir {data_dir} has {there}/ but no {missing}/: give both, or the training folder")
    if split == "test":
        raise DatasetError(f"data_dir {data_dir} has no train/ and test/, so there are no images to test on")
    return data_dir


def _existing_folder(path: Path, setting: str) -> Path:
    if not path.is_dir():
        raise DatasetError(f"{setting} {path} is not a folder")
    return path


def _class_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_classes(root: Path) -> tuple[list[str], Labels, tuple[str, ...]]:
    """Image names, [N] labels and class names of a folder of class folders."""
    image_names: list[str] = []
    labels: list[int] = []
    folders = _class_folders(root)
    for label, folder in enumerate(folders):
        members = _list_images(folder, root)
        if not members:
            raise DatasetError(f"class folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        image_names += members
        labels += [label] * len(members)
    return image_names, np.asarray(labels, dtype=np.int64), tuple(folder.name for folder in folders)


def _list_images(folder: Path, root: Path) -> list[str]:
    """Paths of the images below `folder`, relative to `root`, with forward slashes."""
    names: list[str] = []
    for parent, _, files in sorted(os.walk(folder, followlinks=True)):
        relative = Path(parent).relative_to(root)
        names += [(relative / file).as_posix() for file in sorted(files) if file.lower().endswith(IMAGE_SUFFIXES)]
    return names
