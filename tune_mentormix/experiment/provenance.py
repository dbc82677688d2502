"""What a search ran with: versions, commit, machine, data. Written into `search.yaml` before the first trial."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import tune_mentormix
from trainables.data import Dataset
from tune_mentormix.storage.paths import Location
from tune_mentormix.storage.yaml_files import write_atomically

LABEL_NOISE_FILE = "label_noise.json"
PACKAGES = ("ray", "optuna", "torch", "torchvision", "numpy")


def provenance(dataset: Dataset) -> dict[str, Any]:
    """Versions by package, the git commit (None outside a checkout), the machine, and the dataset's facts."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(Path(word).name if n == 0 else word for n, word in enumerate(sys.argv)),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "versions": package_versions(),
        "commit": git_commit(),
        "dataset": dataset_facts(dataset),
    }


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """What identifies the data, and what is known of their labels."""
    return {
        "fingerprint": dataset.fingerprint,
        "train_images": len(dataset.train_images),
        "validation_images": len(dataset.validation_images),
        "image_shape": list(dataset.train_images.shape[1:]),
        "classes": len(dataset.class_names),
        "validation_labels": dataset.validation_labels_kind,
        "noise_rate": None if dataset.noise_rate is None else round(dataset.noise_rate, 4),
    }


def package_versions() -> dict[str, str]:
    """Versions of this project, of Python, and of the packages that results depend on."""
    return {
        "tune-mentormix": tune_mentormix.__version__,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
    }


def write_label_noise(path: Location, dataset: Dataset) -> None:
    """Writes what is known of the wrong labels: how many, and which classes are mistaken for which.

    `transition_matrix[i][j]` is the share of training images of true class i that are labelled j. Both are null where
    the true labels are unknown.
    """
    matrix = dataset.transition_matrix
    facts = {
        "split": "train",
        "class_names": list(dataset.class_names),
        "noise_rate": dataset.noise_rate,
        "transition_matrix": None if matrix is None else matrix.tolist(),
    }
    write_atomically(path, json.dumps(facts) + "\n")


def git_commit() -> str | None:
    """The commit of the checkout this package lies in, `+` appended where it has uncommitted changes."""
    try:
        described = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
