"""Label files: labels to train on in place of a dataset's own, such as CIFAR-10N's or a CNWL split file.

Nothing in a file is executed: a pickle is loaded only through PyTorch's restricted unpickler.
"""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from trainables.data.sources import (
    Labels,
    Source,
    as_labels,
    check_label_range,
    implied_classes,
    load_numpy,
    read_array,
)
from trainables.errors import DatasetError, one_line
from trainables.settings import DataSettings

_CLEAN_LABEL_KEY = "clean_label"  # CIFAR-10N and CIFAR-100N keep the true labels beside the human ones
IMAGE_COLUMN, LABEL_COLUMN = "image", "label"
GIVEN_COLUMN = "given"  # in a file of corrected labels: the label before, which was none of the true ones


class _RawLabels(NamedTuple):
    """The content of a file, before its labels are matched to classes and images."""

    values: Labels | list[str]  # integers, or words: class names or integers in text
    image_names: tuple[str, ...] | None = None
    clean_labels: Labels | None = None
    is_correction: bool = False


@dataclass(frozen=True)
class LabelFile:
    """The content of a label file."""

    labels: Labels  # [M] int64 in [0, K)
    class_names: tuple[str, ...]  # the dataset's K; if it has none, those the file implies
    image_names: tuple[str, ...] | None  # M; None: the labels are in the order of the dataset's images
    clean_labels: Labels | None  # [M] int64, if the file keeps the true labels too
    is_correction: bool  # of labels that were given with the images, and so are not the true ones


def load_labels(source: Source, settings: DataSettings) -> Source:
    """Returns the images that the label file labels, with its labels; without a label file, the source itself.

    The source's own labels, if it has any, become the clean ones, but for those that the file corrects. Raises
    DatasetError if the file does not fit.
    """
    path = settings.labels_file
    if path is None:
        return source
    file = read_label_file(path, settings.labels_key, source.class_names)
    labels = file.labels
    if file.image_names is not None:
        positions, order = _positions_of(file.image_names, source, path)
        source, labels = source.select(positions), labels[order]
    elif len(labels) != source.image_count:
        raise DatasetError(
            f"labels_file {path} has {len(labels)} labels for {source.image_count} images: it must have one for "
            "each, in their order, or name the images"
        )
    own_labels = source.clean_labels
    if own_labels is None and not file.is_correction:
        own_labels = source.labels
    if own_labels is None:
        own_labels = file.clean_labels
    elif file.clean_labels is not None and not np.array_equal(file.clean_labels, own_labels):
        raise DatasetError(
            f"labels_file {path} is for other images or another order: its clean_label is not the dataset's labels"
        )
    return replace(source, class_names=file.class_names, labels=labels, clean_labels=own_labels)


def read_label_file(path: Path, key: str | None, class_names: tuple[str, ...] | None) -> LabelFile:
    """Reads labels for a dataset with these classes (None: it has none); raises DatasetError if they do not fit.

    The ending decides how: `.npy`; `.npz` or `.pt` (as CIFAR-10N's) with named arrays; `.csv` with a header, the
    labels in the column `label` and, if there is a column `image`, each for the image it names; any other ending:
    lines `image label`, as in a CNWL split file. `key` names the array or column, where there is a choice.
    """
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise DatasetError(f"labels_file {path} {what}: give the file that holds the labels")
    raw = _READERS.get(path.suffix.lower(), _read_split_file)(path, key)
    labels, class_names = _match_classes(raw.values, class_names, path)
    check_label_range(labels, class_names, f"labels_file {path}")
    return LabelFile(labels, class_names, raw.image_names, raw.clean_labels, raw.is_correction)


def _read_npy(path: Path, key: str | None) -> _RawLabels:
    if key is not None:
        raise DatasetError(
            f"labels_key {key!r} cannot be used with {path}: an .npy file holds one array without a name"
        )
    return _RawLabels(_integers_or_words(load_numpy(path, np.ndarray), f"labels_file {path}"))


def _read_npz(path: Path, key: str | None) -> _RawLabels:
    arrays = load_numpy(path, NpzFile)
    return _choose(list(arrays), lambda name: read_array(arrays, name, path), key, path)


def _read_torch(path: Path, key: str | None) -> _RawLabels:
    """A `.pt` file that holds a dictionary of arrays, as CIFAR-10N and CIFAR-100N are distributed."""
    import torch  # only these files need it

    # PyTorch's own unpickler calls nothing but what is named here: enough for NumPy integer arrays, old and new.
    reconstruct = np.array(0).__reduce__()[0]
    integer_dtypes = [type(np.dtype(code)) for code in np.typecodes["AllInteger"]]
    allowed: list[Any] = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (reconstruct, "numpy._core.multiarray._reconstruct"),
        (codecs.encode, "_codecs.encode"),
        np.ndarray,
        np.dtype,
        *integer_dtypes,
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise DatasetError(
            f"cannot read labels_file {path}: it holds more than a dictionary of integer arrays"
        ) from error
    except Exception as error:  # on a damaged file that unpickler raises almost anything
        raise DatasetError(f"cannot read labels_file {path}: damaged, or no .pt file") from error
    if not isinstance(content, dict):
        raise DatasetError(f"labels_file {path} must hold a dictionary of arrays, got {type(content).__name__}")
    return _choose([str(name) for name in content], lambda name: np.asarray(content[name]), key, path)


def _choose(names: list[str], read: Callable[[str], NDArray[np.generic]], key: str | None, path: Path) -> _RawLabels:
    """The array that `key` names, and the true labels where the file keeps them under their usual name."""
    if key is None and len(names) == 1:
        key = names[0]
    if key not in names:
        raise DatasetError(f"labels_key must be one of {', '.join(sorted(names))} for {path}, got {key}")
    clean_labels = None
    if _CLEAN_LABEL_KEY in names:
        clean_labels = as_labels(read(_CLEAN_LABEL_KEY), f"{_CLEAN_LABEL_KEY} in {path}")
    return _RawLabels(_integers_or_words(read(key), f"{key} in {path}"), None, clean_labels)


def _integers_or_words(array: NDArray[np.generic], where: str) -> Labels | list[str]:
    if array.ndim == 1 and array.dtype.kind == "U":
        return [str(word) for word in array]
    return as_labels(array, where)


def _read_csv(path: Path, key: str | None) -> _RawLabels:
    label_column = key or LABEL_COLUMN
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            columns = next(rows, [])
            if label_column not in columns:
                raise DatasetError(f"labels_key must be one of {', '.join(columns)} for {path}, got {label_column}")
            lines = []
            for row in filter(None, rows):
                if len(row) != len(columns):
                    raise DatasetError(
                        f"line {rows.line_num} of {path} must have {len(columns)} fields, got {len(row)}"
                    )
                lines.append(dict(zip(columns, row, strict=True)))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"cannot read labels_file {path}: {one_line(error)}") from error
    named = tuple(line[IMAGE_COLUMN] for line in lines) if IMAGE_COLUMN in columns else None
    return _RawLabels([line[label_column] for line in lines], named, is_correction=GIVEN_COLUMN in columns)


def _read_split_file(path: Path, key: str | None) -> _RawLabels:
    """Lines `image_id class_id`, as the Controlled Noisy Web Labels split files have them (Jiang et al. 2020)."""
    if key is not None:
        raise DatasetError(f"labels_key {key!r} cannot be used with {path}: its lines hold one label each")
    words, image_names = [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"cannot read labels_file {path}: not a text file, nor .npy, .npz, .pt or .csv") from error
    except OSError as error:
        raise DatasetError(f"cannot read labels_file {path}: {one_line(error)}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields = line.rsplit(maxsplit=1)  # an image name may hold spaces
        if len(fields) != 2:
            raise DatasetError(f"line {number} of {path} must be 'image class', got {line!r}")
        image_names.append(fields[0])
        words.append(fields[1])
    return _RawLabels(words, tuple(image_names))


_READERS: dict[str, Callable[[Path, str | None], _RawLabels]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".csv": _read_csv,
}


def _match_classes(
    values: Labels | list[str], class_names: tuple[str, ...] | None, path: Path
) -> tuple[Labels, tuple[str, ...]]:
    """Labels as integers, and the classes they count.

    Words are class names if all of them are, with the spaces around them or without; else they must be integers.
    Where the dataset has no classes, integers imply the classes 0 to their maximum, and other words imply themselves,
    in alphabetical order.
    """
    if len(values) == 0:
        raise DatasetError(f"labels_file {path} holds no labels: it must hold one for each image")
    if isinstance(values, list) and not set(values) <= set(class_names or ()):
        values = [word.strip() for word in values]
    if isinstance(values, list) and not set(values) <= set(class_names or ()):
        try:
            values = np.asarray([int(word) for word in values], dtype=np.int64)
        except (ValueError, OverflowError) as error:
            if class_names is not None:
                unknown = next(word for word in values if word not in class_names)
                raise DatasetError(
                    f"labels_file {path} has label {unknown!r}, which is none of the {len(class_names)} classes "
                    f"{', '.join(class_names)}"
                ) from error
    if isinstance(values, list):
        names = class_names or tuple(sorted(set(values)))
        label_of = {name: label for label, name in enumerate(names)}
        return np.asarray([label_of[word] for word in values], dtype=np.int64), names
    return values, class_names or implied_classes(values, f"labels_file {path}")


def _positions_of(image_names: tuple[str, ...], source: Source, path: Path) -> tuple[Labels, Labels]:
    """Returns where the named images are in the source, ascending, and the order of the names that makes it so.

    Spaces around a name count only where an image is named so.
    """
    position_of = {name: position for position, name in enumerate(source.image_names)}
    image_names = tuple(name if name in position_of else name.strip() for name in image_names)
    if len(set(image_names)) < len(image_names):
        twice = next(name for name, count in Counter(image_names).items() if count > 1)
        raise DatasetError(f"labels_file {path} names image {twice!r} twice: leave one line")
    missing = [name for name in image_names if name not in position_of]
    if missing:
        raise DatasetError(
            f"labels_file {path} names {len(missing)} images that the dataset does not have, first {missing[0]!r} "
            f"(its own are named like {source.image_names[0]!r})"
        )
    positions = np.asarray([position_of[name] for name in image_names], dtype=np.int64)
    order = np.argsort(positions)
    return positions[order], order
