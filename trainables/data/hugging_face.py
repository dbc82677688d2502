"""Data sets of Hugging Face's `datasets` as a source: parquet, WebDataset and Arrow files, and those of its hub.

The library keeps them as Arrow files, which are mapped into memory and not read into it; images are decoded here, as
those of a folder are.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.image_folder import decode_image
from trainables.data.sources import (
    Labels,
    Source,
    Split,
    as_labels,
    check_label_range,
    implied_classes,
    positions_as_names,
)
from trainables.data.streaming import AnyImages, stored
from trainables.errors import DatasetError, one_line
from trainables.settings import HUGGING_FACE_FILES, HUGGING_FACE_PREFIX, DataSettings

if TYPE_CHECKING:
    from datasets import Dataset as Table


LABEL_COLUMNS = ("label", "labels", "cls", "class")  # looked for, in this order, where no column is of classes


def hugging_face_source(settings: DataSettings, split: Split) -> Source:
    """The split `train` or `test` of a data set that `datasets` loads; its images are named by their positions.

    Raises DatasetError if the package is missing, or the data are, have no such split, or lack images or labels.
    """
    origin = _Origin.of(settings, split)
    table = origin.table()
    image_column = settings.image_column or _image_column(table, origin)
    label_column = settings.label_column or _label_column(table, origin)
    _check_columns(table, image_column, label_column, origin)
    labels, class_names = _labels(table, label_column, origin)

    def read_images(index: Labels) -> AnyImages:
        images = TableImages.of(origin, image_column, index, settings.image_size)
        return stored(images, settings.cache_dir.expanduser(), settings.images_in)

    return Source(len(labels), class_names, labels, None, positions_as_names(len(labels)), read_images)


@dataclass(frozen=True)
class _Origin:
    """Tells where a table comes from, so that another machine can load it too."""

    name: str  # without `hf/`
    data_dir: Path | None
    cache_dir: Path
    split: str

    @classmethod
    def of(cls, settings: DataSettings, split: Split) -> _Origin:
        name = settings.dataset.removeprefix(HUGGING_FACE_PREFIX)
        return cls(name, settings.data_dir, settings.cache_dir.expanduser() / "huggingface", split)

    def __str__(self) -> str:
        return f"dataset {HUGGING_FACE_PREFIX}{self.name}" + (f" in {self.data_dir}" if self.data_dir else "")

    def table(self) -> Table:
        """Loads the split. Raises DatasetError if it cannot."""
        try:
            import datasets
        except ImportError as error:
            raise DatasetError(
                f"{self} needs the package datasets: pip install 'tune-mentormix[huggingface]'"
            ) from error
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise DatasetError(f"data_dir must be the folder of the data, got {self.data_dir}, which is no folder")
        try:
            with _quiet():
                if self.name == "arrow":
                    found = datasets.load_from_disk(str(self.data_dir))
                elif self.name in HUGGING_FACE_FILES:
                    found = datasets.load_dataset(
                        self.name, data_dir=str(self.data_dir), cache_dir=str(self.cache_dir)
                    )
                else:
                    found = datasets.load_dataset(self.name, cache_dir=str(self.cache_dir))
        except Exception as error:  # its builders raise almost anything
            message = f"{self} cannot be loaded: {one_line(error)}"
            if self.name not in HUGGING_FACE_FILES:
                message += "; without network, put its parquet files into a folder and use hf/parquet with data_dir"
            raise DatasetError(message) from error
        if isinstance(found, datasets.Dataset):  # saved without splits
            found = datasets.DatasetDict({"train": found})
        if self.split not in found:
            raise DatasetError(f"{self} has no split {self.split}, only {', '.join(map(str, found))}")
        table: Table = found[self.split]
        return table


@dataclass(frozen=True)
class TableImages:
    """The images of a table, brought to one size; only where it comes from is sent to other machines."""

    origin: _Origin
    column: str
    positions: NDArray[np.int64]  # [N], in the table
    image_size: int | None  # pixels of a side; None: all have one size already, and keep it
    encoded_bytes: NDArray[np.int64]  # [N]
    key: str
    _table: list[Table] = field(default_factory=list, compare=False, repr=False)  # loaded when it is first asked for

    @classmethod
    def of(cls, origin: _Origin, column: str, positions: NDArray[np.int64], image_size: int | None) -> TableImages:
        """Looks at the sizes of the images at these positions."""
        import pyarrow.compute as pc

        encoded = _encoded(origin.table(), column)
        chunks = [chunk.field("bytes") for chunk in encoded.data.column(column).chunks]
        sizes = np.concatenate([np.asarray(pc.fill_null(pc.binary_length(chunk), 0), np.int64) for chunk in chunks])
        digest = hashlib.sha256(f"{origin}\0{origin.split}\0{column}\0{image_size}".encode())
        for file in encoded.cache_files:
            digest.update(f"{Path(file['filename']).stat().st_mtime_ns}".encode())
        digest.update(positions.tobytes() + sizes[positions].tobytes())
        return cls(origin, column, positions, image_size, sizes[positions], digest.hexdigest(), [encoded])

    def __getstate__(self) -> dict[str, Any]:
        """The table stays here."""
        return self.__dict__ | {"_table": []}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """N positions in the table."""
        return tuple(str(position) for position in self.positions)

    def decode(self, position: int) -> NDArray[np.uint8]:
        """Returns one image [H, W, 3], or raises DatasetError."""
        if not self._table:
            self._table.append(_encoded(self.origin.table(), self.column))
        cell = self._table[0][int(self.positions[position])][self.column]
        size = None if self.image_size is None else (self.image_size, self.image_size)
        if cell is None or (cell["bytes"] is None and not cell["path"]):
            raise DatasetError(f"{self.describe(position)} is missing")
        content = cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"])
        return decode_image(content, self.describe(position), size)

    def describe(self, position: int) -> str:
        """Names an image by its row."""
        return f"row {self.positions[position]} of {self.origin}"


def _encoded(table: Table, column: str) -> Table:
    from datasets import Image

    return table.select_columns([column]).cast_column(column, Image(decode=False))


def _image_column(table: Table, origin: _Origin) -> str:
    from datasets import Image

    found = [name for name, feature in table.features.items() if isinstance(feature, Image)]
    if len(found) != 1:
        what = f"several columns of images, {', '.join(found)}" if found else "no column of images"
        raise DatasetError(f"{origin} has {what}: set image_column to one of {', '.join(table.column_names)}")
    return str(found[0])


def _label_column(table: Table, origin: _Origin) -> str:
    from datasets import ClassLabel

    classes = [name for name, feature in table.features.items() if isinstance(feature, ClassLabel)]
    found = classes or [name for name in LABEL_COLUMNS if name in table.column_names][:1]
    if len(found) != 1:
        what = f"several columns of labels, {', '.join(found)}" if found else "no column of labels"
        raise DatasetError(f"{origin} has {what}: set label_column to one of {', '.join(table.column_names)}")
    return str(found[0])


def _check_columns(table: Table, image_column: str, label_column: str, origin: _Origin) -> None:
    from datasets import Image

    for column in (image_column, label_column):
        if column not in table.column_names:
            raise DatasetError(f"{origin} has no column {column!r}; it has {', '.join(table.column_names)}")
    if not isinstance(table.features[image_column], Image):
        raise DatasetError(f"column {image_column!r} of {origin} holds no images")


def _labels(table: Table, column: str, origin: _Origin) -> tuple[Labels, tuple[str, ...]]:
    """Returns labels [N] and the names of the classes, which texts are themselves, in alphabetical order."""
    from datasets import ClassLabel

    where, feature = f"column {column!r} of {origin}", table.features[column]
    values = table.data.column(column).to_numpy()
    if isinstance(feature, ClassLabel):
        labels, names = as_labels(values, where), tuple(map(str, feature.names))
    elif values.dtype.kind in "iu":
        labels = as_labels(values, where)
        names = implied_classes(labels, where)
    else:
        texts = [value for value in values.tolist() if isinstance(value, str)]
        if len(texts) < len(values):
            raise DatasetError(f"{where} must hold class names or whole numbers from 0 in every row")
        names = tuple(sorted(set(texts)))
        number = {name: label for label, name in enumerate(names)}
        labels = np.array([number[text] for text in texts], np.int64)
    check_label_range(labels, names, where)
    return labels, names


@contextmanager
def _quiet() -> Iterator[None]:
    """Has the library print nothing: neither bars, nor a warning at each of its attempts to reach the hub."""
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    levels = {name: logging.getLogger(name).level for name in ("datasets", "huggingface_hub")}
    datasets.disable_progress_bars()
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if had_bars:
            datasets.enable_progress_bars()
