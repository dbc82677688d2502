"""The record that an export's test set was opened: lines are only ever added, the first before anything is measured.

A test set that choices are made by is a second validation set; who relies on the figure can read here how often
it was looked at.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tune_mentormix
from trainables.evaluation import Measurement
from tune_mentormix.errors import RequestError
from tune_mentormix.exported import ExportedFolder
from tune_mentormix.exported_files import OPENINGS_FILE


def count_openings(folder: Path) -> int:
    """How often the test set was opened for what this folder holds, or held before."""
    try:
        lines = (folder / OPENINGS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise RequestError(f"cannot read {folder / OPENINGS_FILE}: {error.strerror}") from error
    return sum('"opened"' in line for line in lines)


def record_opening(exported: ExportedFolder) -> None:
    """Writes down that the test set was opened. Raises RequestError if that cannot be written."""
    _append(exported, {"event": "opened", "version": tune_mentormix.__version__})


def record_measurement(exported: ExportedFolder, measurement: Measurement) -> None:
    """Writes down what came of it. Raises RequestError if that cannot be written."""
    figures = {"images": measurement.images, "accuracy": measurement.accuracy}
    _append(exported, {"event": "measured", "split": "test", "labels": "clean", **figures})


def _append(exported: ExportedFolder, fields: dict[str, Any]) -> None:
    path = exported.path / OPENINGS_FILE
    time = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"time": time, **fields, "model_sha256": exported.model_sha256}) + "\n"
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        reason = f"{path} cannot be written ({error.strerror})"
        raise RequestError(f"the test set stays sealed, since its opening could not be recorded: {reason}") from error
