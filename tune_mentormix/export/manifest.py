"""The files of an exported folder: their names, and what is recorded of them and of how they came about.

`provenance.json` lists the files with their digests, so that damage and changes are noticed. It is no signature: a
change that rewrites the digests too is not noticed. It is written last: a folder without it is an interrupted export.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from trainables.errors import describe_value, one_line
from trainables.files import refuse_pipe
from tune_mentormix.config.settings import FORMAT
from tune_mentormix.config.settings_file import refuse_newer
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.provenance import git_commit, package_versions
from tune_mentormix.storage.paths import write_atomically
from tune_mentormix.storage.yaml_files import YamlDocument

CONFIG_FILE = "best_config.yaml"
MODEL_FILE = "model.safetensors"
ONNX_FILE = "model.onnx"
FLAGS_FILE = "reference_flags.txt"
CARD_FILE = "model_card.md"
SCRIPT_FILE = "reproduce.sh"
PROVENANCE_FILE = "provenance.json"
RECORDED_FILES = (CONFIG_FILE, MODEL_FILE, ONNX_FILE, FLAGS_FILE, CARD_FILE, SCRIPT_FILE)

MAX_PROVENANCE_BYTES = 10_000_000

# Metric → its split, and the labels it is measured on; None: the validation labels, noisy or clean.
_MEASURED_ON: dict[str, tuple[str, str | None]] = {
    "val_accuracy": ("validation", None),
    "val_loss": ("validation", None),
    "noisy_val_accuracy": ("validation", "noisy"),
    "balanced_accuracy": ("validation", None),
    "macro_f1": ("validation", None),
    "top5_accuracy": ("validation", None),
    "own_metric": ("validation", None),
    "train_loss": ("train", "noisy"),
    "mean_weight": ("train", "noisy"),
    "selected_clean_fraction": ("train", "clean"),
}


class FileRecord(BaseModel):
    """A file as it was when it was exported."""

    bytes: int
    sha256: str


class ModelRecord(BaseModel):
    """The record of the weights: what they were trained on, and their accuracy then."""

    which: Literal["last", "best"] = "last"  # epoch of those done; `best` was chosen by its own validation accuracy
    epoch: int
    trained_on: Literal["training split", "all images"] = "training split"
    val_accuracy: float | None  # None for all images: none was left to validate on


class ExportRecord(BaseModel):
    """The part of `provenance.json` that commands rely on; the rest is for people."""

    model: ModelRecord | None = None
    why_no_model: str | None = None
    files: dict[str, FileRecord]


def write_provenance(folder: Path, values: dict[str, Any]) -> None:
    """Writes `provenance.json`, the last file of a folder, with the digests of the others. Raises OSError."""
    records = {name: file_record(folder / name).model_dump() for name in RECORDED_FILES if (folder / name).is_file()}
    document = {"format": FORMAT, **values, "files": records}
    write_atomically(folder / PROVENANCE_FILE, json.dumps(document, indent=2, allow_nan=False) + "\n")


def metric_records(metrics: Mapping[str, float | None], epoch: int, labels: str) -> list[dict[str, Any]]:
    """Returns each metric of an epoch but its speed, with its split and labels; `labels` are those of validation."""
    return [
        {"metric": name, "value": metrics[name], "split": split, "labels": kind or labels, "epoch": epoch}
        for name, (split, kind) in _MEASURED_ON.items()
        if name in metrics
    ]


def environment_record() -> dict[str, Any]:
    """Returns when a record was written, with which versions, on what machine."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(),
        "commit": git_commit(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
    }


def read_provenance(folder: Path) -> ExportRecord:
    """Reads the record of a folder. Raises RequestError if there is none, or it is damaged or newer."""
    path = folder / PROVENANCE_FILE
    try:
        refuse_pipe(path)
        if path.stat().st_size > MAX_PROVENANCE_BYTES:
            raise RequestError(f"{path} has {path.stat().st_size:,} bytes: it is no export's provenance")
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RequestError(f"{path} is missing: {folder} is no export, or its export was interrupted") from error
    except OSError as error:
        raise RequestError(f"cannot read {path}: {one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(values, dict) or "format" not in values:
        raise RequestError(f"{path} is no export's provenance: it names no format")
    refuse_newer(YamlDocument(values, str(path)))
    try:
        return ExportRecord.model_validate(values)
    except ValidationError as error:
        raise RequestError(f"{path} is no export's provenance: {describe_value(error.errors()[0])}") from error


def check_file(folder: Path, name: str, provenance: ExportRecord) -> None:
    """Raises RequestError unless a file is byte by byte the one that was exported."""
    path, recorded = folder / name, provenance.files.get(name)
    if recorded is None:
        raise RequestError(
            f"{folder / PROVENANCE_FILE} does not list {name}: it is the provenance of another export; export again"
        )
    try:
        found = file_record(path)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {one_line(error)}") from error
    if found.bytes != recorded.bytes:
        raise RequestError(
            f"{path} has {found.bytes:,} bytes, not the {recorded.bytes:,} that were exported: export it again"
        )
    if found.sha256 != recorded.sha256:
        raise RequestError(
            f"{path} was changed since it was exported: its sha256 is another; export again, or use a copy"
        )


def file_record(path: Path) -> FileRecord:
    """Returns size and digest of a file. Raises OSError if it cannot be read."""
    refuse_pipe(path)
    with path.open("rb") as stream:
        return FileRecord(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), bytes=stream.tell())
