"""The provenance of a search: versions, commit, machine, data. Written into `search.yaml` before the first trial."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field

import tune_mentormix
from trainables.files import sha256_of
from trainables.plugins import source_digests
from trainables.settings import LabelsKind
from tune_mentormix.storage.paths import Location, write_atomically

if TYPE_CHECKING:
    from trainables.data import Dataset  # imports NumPy
    from tune_mentormix.config.settings import SearchSettings

LABEL_NOISE_FILE = "label_noise.json"
PACKAGES = ("ray", "optuna", "torch", "torchvision", "numpy")
OPTIONAL_PACKAGES = ("timm",)  # recorded where they are installed


class DatasetFacts(BaseModel):
    """The facts that identify the data, and what is known of their labels."""

    model_config = ConfigDict(extra="allow")

    fingerprint: str = ""  # empty: not recorded
    train_images: int = 0  # 0: not recorded
    validation_images: int = 0
    image_shape: tuple[int, int, int] = (0, 0, 0)  # height, width, channels
    classes: int = 0
    validation_labels: LabelsKind = "noisy"
    noise_rate: float | None = None  # of the training labels; None: unknown

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Returns the facts of a loaded dataset."""
        height, width, channels = dataset.train_images.shape[1:]
        return cls(
            fingerprint=dataset.fingerprint,
            train_images=len(dataset.train_images),
            validation_images=len(dataset.validation_images),
            image_shape=(height, width, channels),
            classes=len(dataset.class_names),
            validation_labels=dataset.validation_labels_kind,
            noise_rate=None if dataset.noise_rate is None else round(dataset.noise_rate, 4),
        )


class Provenance(BaseModel):
    """The provenance of a search. An older version may not have all fields; those of a newer one are kept."""

    model_config = ConfigDict(extra="allow")

    started: str = ""  # ISO 8601, in UTC
    command: str = ""
    host: str = ""
    platform: str = ""
    versions: dict[str, str] = Field(default_factory=dict)  # by package
    commit: str | None = None  # of git; None outside a checkout
    dataset: DatasetFacts = Field(default_factory=DatasetFacts)
    plug_ins: dict[str, str] = Field(default_factory=dict)  # name → sha256 of its source
    weights: dict[str, str] = Field(default_factory=dict)  # file that trials start from → its sha256

    @classmethod
    def collect(cls, dataset: Dataset, settings: SearchSettings | None = None) -> Self:
        """Returns the provenance of a search that this process starts now, with its plug-ins and weights files."""
        return cls(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            command=" ".join(Path(word).name if n == 0 else word for n, word in enumerate(sys.argv)),
            host=socket.gethostname(),
            platform=platform.platform(),
            versions=package_versions(),
            commit=git_commit(),
            dataset=DatasetFacts.of(dataset),
            plug_ins=source_digests(settings.plugins()) if settings else {},
            weights={str(path): sha256_of(path) for path in settings.weights_files()} if settings else {},
        )


def package_versions() -> dict[str, str]:
    """Returns the versions of this project, of Python, and of the packages that results depend on."""
    return {
        "tune-mentormix": tune_mentormix.__version__,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
        **{package: metadata.version(package) for package in OPTIONAL_PACKAGES if find_spec(package)},
    }


def write_label_noise(path: Location, dataset: Dataset) -> None:
    """Writes what is known of the wrong labels: how many, and which classes are mistaken for which.

    `transition_matrix[i][j]` is the fraction of training images of true class i that are labelled j. Both are null
    where the true labels are unknown.
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
    """Returns the commit of the checkout this package lies in, with a `+` where it has uncommitted changes."""
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
