"""What a node says of itself before trials are sent there.

It runs on the node, so it imports nothing that may be missing there.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from tune_mentormix.storage.paths import Location
from tune_mentormix.storage_probe import FROM_DRIVER, reads_probe, write_probe

# Distributions and what they are imported as: all that a trial needs on its node.
NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "ray": "ray",
    "pydantic": "pydantic",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "safetensors": "safetensors",
    "filelock": "filelock",
    "tune-mentormix": "trainables",
}
SAME = ("python", "ray", "torch", "numpy")  # a state written by one must be read by another, to the same figures


@dataclass(frozen=True)
class NodeReport:
    """A node's versions, what is missing there, and why the storage does not work from there."""

    node: str
    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    storage_error: str | None = None


def report_packages(node: str, storage_error: str | None = None) -> NodeReport:
    """Looks up, without importing any of them, which packages this Python has."""
    missing = [name for name, module in NEEDED.items() if find_spec(module) is None]
    versions = {"python": platform.python_version()} | {name: _version(name) for name in SAME if name != "python"}
    return NodeReport(node, versions, missing, storage_error)


def report_node(node_id: str, name: str, probe: Location) -> NodeReport:
    """What the node says, after it has read the driver's file from the storage and written its own.

    Args:
        node_id: what its own file is called.
        name: of the node, for people.
        probe: the folder in the storage.
    """
    try:
        if not reads_probe(probe, FROM_DRIVER):
            return report_packages(name, "what the driver wrote is not there")
        write_probe(probe, node_id)
    except OSError as error:
        return report_packages(name, error.strerror or str(error))
    return report_packages(name)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"
