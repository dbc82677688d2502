"""Reads images and labels from their sources: scikit-learn's digits, CIFAR, `.npz` files; and reads array files.

Arrays are read without executing anything and checked before use. Folders of images are in `image_folder`.
"""

from __future__ import annotations

import math
import os
import stat
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from trainables.data.splits import stratified_split
from trainables.data.streaming import AnyImages, Images, select_images
from trainables.errors import DatasetError, PluginError, one_line
from trainables.files import locked_folder
from trainables.plugins import call_plugin, load_plugin, told_if_slow
from trainables.settings import DataSettings

Labels = NDArray[np.int64]
Split = Literal["train", "test", "clean_validation"]  # "train" is what training and validation share

Loaded = TypeVar("Loaded", NpzFile, NDArray[np.generic])

MAX_CLASSES = 10_000  # their confusion matrix has 100 million cells


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels."""

    images: AnyImages  # [N, H, W, C] uint8
    labels: Labels  # [N] int64 in [0, K), as given
    clean_labels: Labels | None  # [N] int64 where known
    class_names: tuple[str, ...]  # K, in label order

    @property
    def is_clean(self) -> bool:
        """Whether the labels are known to be the clean ones."""
        return self.clean_labels is not None and np.array_equal(self.labels, self.clean_labels)

    def select(self, index: Labels) -> LabelledImages:
        """Returns the images at these positions: a copy of them, if they are in memory."""
        images = select_images(self.images, index)
        return replace(self, images=images, labels=self.labels[index], clean_labels=_at(self.clean_labels, index))


@dataclass(frozen=True)
class Source:
    """One split of a dataset, whose images are read only when it is known which are needed."""

    image_count: int  # N
    class_names: tuple[str, ...] | None  # K, in label order; None before a label file names the classes
    labels: Labels | None  # [N] int64 in [0, K); None if `class_names` is
    clean_labels: Labels | None  # [N] int64 where known
    image_names: tuple[str, ...]  # N, in label files: paths, or positions where images are no files
    read_images: Callable[[Labels], AnyImages]  # ascending positions [n] → [n, H, W, C] uint8

    def select(self, index: Labels) -> Source:
        """Returns the part of the source at these ascending positions."""
        return Source(
            len(index),
            self.class_names,
            _at(self.labels, index),
            _at(self.clean_labels, index),
            tuple(self.image_names[position] for position in index),
            lambda wanted: self.read_images(index[wanted]),
        )

    def read(self) -> LabelledImages:
        """Reads all images of a source that has labels."""
        assert self.labels is not None  # only a training split may lack them, and then has a label file
        assert self.class_names is not None
        images = self.read_images(np.arange(self.image_count))
        return LabelledImages(images, self.labels, self.clean_labels, self.class_names)


def digits_source(settings: DataSettings, split: Split) -> Source:
    """scikit-learn's 1,797 handwritten digits of 8×8 grey pixels; a fixed fifth of every class is the test split."""
    from sklearn.datasets import load_digits  # slow to import, and only digits need it

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]  # pixels come as 0 … 16
    labels = digits.target.astype(np.int64)
    # a fixed seed: the test images are the same for every data_seed
    train_index, test_index = stratified_split(labels, 0.2, np.random.default_rng(0))
    index = train_index if split == "train" else test_index
    return _in_memory(images[index], labels[index], tuple(str(digit) for digit in range(10)))


def cifar_source(settings: DataSettings, split: Split) -> Source:
    """CIFAR-10 or CIFAR-100 from torchvision, in `data_dir` (else `cache_dir`), downloaded into it if missing."""
    from torchvision.datasets import CIFAR10, CIFAR100  # imports torch

    cifar_class = CIFAR10 if settings.dataset == "cifar10" else CIFAR100
    folder = settings.data_dir or settings.cache_dir.expanduser()
    try:
        cifar = cifar_class(folder, train=split == "train", download=False)
    except RuntimeError:  # torchvision's "not found or corrupted"
        try:
            with locked_folder(folder, f".{settings.dataset}.lock", cifar_class.filename):
                cifar = cifar_class(folder, train=split == "train", download=True)
        except (RuntimeError, OSError, EOFError, tarfile.TarError) as error:
            raise DatasetError(
                f"dataset {settings.dataset} is not in {folder} and could not be downloaded ({error}): set data_dir "
                f"to the folder that holds {cifar_class.base_folder}, unpacked from {cifar_class.url}"
            ) from error
    labels = np.asarray(cifar.targets, dtype=np.int64)
    return _in_memory(np.ascontiguousarray(cifar.data), labels, tuple(cifar.classes))


def arrays_source(settings: DataSettings, split: Split) -> Source:
    """The `.npz` file at `data_dir`: `images` [N, H, W, C] or [N, H, W] uint8, `labels` [N] integers from 0.

    It may also hold `clean_labels` [N], `test_images` and `test_labels` (taken to be clean), and `class_names` [K].
    Raises DatasetError if the file or an array is missing or does not fit.
    """
    path = settings.clean_validation if split == "clean_validation" else settings.data_dir
    assert path is not None  # the settings require it
    arrays = load_numpy(path, NpzFile)
    prefix = "test_" if split == "test" else ""

    labels = as_labels(read_array(arrays, f"{prefix}labels", path), f"{prefix}labels in {path}")
    clean_labels = None
    if split == "train" and "clean_labels" in arrays:
        clean_labels = as_labels(read_array(arrays, "clean_labels", path), f"clean_labels in {path}")
        if len(clean_labels) != len(labels):
            raise DatasetError(
                f"{path} has {len(labels)} labels but {len(clean_labels)} clean_labels: each image must have both"
            )

    every_label = labels if clean_labels is None else np.concatenate([labels, clean_labels])
    if "class_names" in arrays:
        names = read_array(arrays, "class_names", path)
        if names.ndim != 1 or len(names) > MAX_CLASSES or len(np.unique(names)) < len(names):
            raise DatasetError(
                f"class_names in {path} must be up to {MAX_CLASSES:,} different texts of shape [K], "
                f"got {names.dtype} of shape {list(names.shape)}"
            )
        class_names = tuple(str(name) for name in names)
    else:
        class_names = implied_classes(every_label, f"labels in {path}")
    check_label_range(every_label, class_names, str(path))

    def read_images(index: Labels) -> Images:
        images = read_array(arrays, f"{prefix}images", path)
        if images.ndim == 3:
            images = images[..., np.newaxis]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
            raise DatasetError(
                f"{prefix}images in {path} must be uint8 of shape [N, H, W], [N, H, W, 1] or [N, H, W, 3], "
                f"got {images.dtype} of shape {list(images.shape)}"
            )
        if len(images) != len(labels):
            raise DatasetError(
                f"{path} has {len(images)} {prefix}images but {len(labels)} {prefix}labels: each image must have one"
            )
        return images.astype(np.uint8, copy=False)[index]

    return Source(len(labels), class_names, labels, clean_labels, positions_as_names(len(labels)), read_images)


def plugin_source(settings: DataSettings, split: Split) -> Source:
    """The arrays that a plug-in `load(split, data_dir)` returns by name, those of the dataset `arrays`.

    `split` is `train` or `test`; for the latter it returns None if there are no test images. Raises DatasetError,
    with the plug-in's name, if it raises, or an array is missing or does not fit.
    """
    name = settings.dataset
    try:
        with told_if_slow("dataset", name):
            load = load_plugin("dataset", name)
            arrays = call_plugin("dataset", name, lambda: load(split, settings.data_dir))
    except PluginError as error:
        raise DatasetError(str(error)) from error
    if arrays is None and split == "test":
        raise DatasetError(f"dataset {name} has no test images")
    if not isinstance(arrays, Mapping) or not {"images", "labels"} <= arrays.keys():
        found = f"got one {type(arrays).__name__}"
        if isinstance(arrays, Mapping):
            found = f"got {', '.join(map(str, arrays)) or 'nothing'}"
        raise DatasetError(f"dataset {name} must return a mapping with images and labels, {found}")
    labels = as_labels(np.asarray(arrays["labels"]), f"labels of dataset {name}")
    clean_labels = None
    if split == "train" and arrays.get("clean_labels") is not None:
        clean_labels = as_labels(np.asarray(arrays["clean_labels"]), f"clean_labels of dataset {name}")
    images = np.asarray(arrays["images"])
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise DatasetError(
            f"images of dataset {name} must be uint8 of shape [N, H, W], [N, H, W, 1] or [N, H, W, 3], "
            f"got {images.dtype} of shape {list(images.shape)}"
        )
    counts = {len(images), len(labels), len(labels if clean_labels is None else clean_labels)}
    if len(counts) > 1:
        raise DatasetError(f"dataset {name} has images and labels of different numbers: {sorted(counts)}")
    every_label = labels if clean_labels is None else np.concatenate([labels, clean_labels])
    names = arrays.get("class_names")
    where = f"labels of dataset {name}"
    class_names = implied_classes(every_label, where) if names is None else tuple(map(str, names))
    if len(set(class_names)) < len(class_names):
        raise DatasetError(f"class_names of dataset {name} must be different texts")
    check_label_range(every_label, class_names, f"dataset {name}")
    names_of_images = positions_as_names(len(labels))
    return Source(len(labels), class_names, labels, clean_labels, names_of_images, lambda index: images[index])


def load_numpy(path: Path, kind: type[Loaded]) -> Loaded:
    """Opens an `.npz` file, whose arrays `read_array` reads one by one, or reads an `.npy` file, as `kind` tells.

    Raises DatasetError if it is of another kind or damaged, or holds Python objects (a pickle).
    """
    suffix, magic = (".npz", b"PK") if kind is NpzFile else (".npy", np.lib.format.MAGIC_PREFIX)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DatasetError(f"cannot read {path}: not a file")  # a pipe would be waited for
        with path.open("rb") as file:
            is_array_file = file.read(len(magic)) == magic
        if not is_array_file:
            raise DatasetError(f"cannot read {path}: not an {suffix} file")
        content: Loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except DatasetError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        raise DatasetError(f"cannot read {path}: {one_line(error)}") from error
    return content


def read_array(arrays: NpzFile, key: str, path: Path) -> NDArray[np.generic]:
    """Reads one array. Raises DatasetError if it is missing or damaged, or holds Python objects (a pickle)."""
    if key not in arrays:
        raise DatasetError(f"{path} has no array {key!r}; it has {', '.join(sorted(arrays))}")
    try:
        _check_size(arrays, key)
        array: NDArray[np.generic] = arrays[key]
    except Exception as error:  # a damaged, encrypted or foreign file raises almost anything
        raise DatasetError(f"cannot read {key!r} in {path}: {one_line(error)}") from error
    return array


def _check_size(arrays: NpzFile, key: str) -> None:
    """Raises ValueError for Python objects, and for a header that claims more than the file or the memory holds."""
    archive = arrays.zip
    assert archive is not None  # until it is closed
    name = key if key in archive.namelist() else f"{key}.npy"
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects (a pickle), which are not read: save numbers or texts")
    needed, held = math.prod(shape) * dtype.itemsize, archive.getinfo(name).file_size
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > min(held, memory):
        has = f"the file holds {held:,}" if needed > held else f"this machine has {memory:,}"
        raise ValueError(f"an array of shape {list(shape)} and {dtype} has {needed:,} bytes, {has}")


def as_labels(array: NDArray[np.generic], where: str) -> Labels:
    """Converts integers of any width to [N] int64. Raises DatasetError, naming `where`, if they are no labels."""
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) == 0:
        raise DatasetError(f"{where} must be integers of shape [N], got {array.dtype} of shape {list(array.shape)}")
    return array.astype(np.int64)


def implied_classes(labels: Labels, where: str) -> tuple[str, ...]:
    """Returns the names of the classes 0 to the highest label. Raises DatasetError if those are too many."""
    position = int(labels.argmax())
    if labels[position] >= MAX_CLASSES:
        raise DatasetError(
            f"{where}: label {labels[position]} at position {position} would make as many classes, which are counted "
            f"from 0; at most are {MAX_CLASSES:,}"
        )
    return tuple(str(label) for label in range(max(int(labels[position]), 0) + 1))


def check_label_range(labels: Labels, class_names: tuple[str, ...], where: str) -> None:
    """Raises DatasetError with the first label outside [0, K) and its position, if there is one."""
    outside = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(outside) > 0:
        raise DatasetError(
            f"{where} has label {labels[outside[0]]} at position {outside[0]}, but there are {len(class_names)} "
            f"classes, 0 to {len(class_names) - 1}"
        )


def positions_as_names(count: int) -> tuple[str, ...]:
    """Returns the names of images that are no files: their positions, from 0."""
    return tuple(str(position) for position in range(count))


def _in_memory(images: Images, labels: Labels, class_names: tuple[str, ...]) -> Source:
    """A published dataset whose labels are clean."""
    return Source(
        len(labels), class_names, labels, labels, positions_as_names(len(labels)), lambda index: images[index]
    )


def _at(labels: Labels | None, index: Labels) -> Labels | None:
    return None if labels is None else labels[index]
