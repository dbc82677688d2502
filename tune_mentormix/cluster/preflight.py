"""What is checked on every node of a joined cluster before anything is created: its packages, and the storage."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune_mentormix.cluster.resources import check_resources
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, temporary_folder

ANSWER_SECONDS = 120.0  # for all nodes at once; most of it is a node fetching the code and starting a worker
SHARED = "on a cluster --storage must be a folder that every node sees, such as NFS, or s3://…"


def check_cluster(settings: SearchSettings) -> None:
    """Checks that trials can run where they will be sent.

    On this machine alone, that is the resources; on a joined cluster every node is asked, too, in a task that takes
    no resources: whether it has what a trial imports, in the driver's versions, and sees the same storage.

    Raises:
        RequestError: one line that names the node, and what is wrong there. Nothing is left behind.
    """
    check_resources(settings)
    if (settings.address or os.environ.get("RAY_ADDRESS")) not in (None, "", "local"):
        check_nodes(settings.storage)


def check_nodes(storage: Location) -> None:
    """Asks every node that can run trials. Raises RequestError as `check_cluster` says."""
    with storage_probe(storage) as folder:
        reports = _ask(_nodes_with_cpus(), folder)
        seen = {node_id: reads_probe(folder, node_id) for node_id in reports}
    here = report_packages("the driver")
    for node_id, report in reports.items():
        reason = objection(report, here, seen[node_id], storage)
        if reason:
            raise RequestError(reason)


def objection(report: NodeReport, here: NodeReport, seen: bool, storage: Location) -> str | None:
    """Why no trial should run on a node, in one line, or None.

    Args:
        report: of the node.
        here: of this process.
        seen: whether the file that the node wrote into the storage was found from here.
        storage: as asked for.
    """
    if report.missing:
        needed = ", ".join(report.missing)
        return f"node {report.node} lacks {needed}: install there what this machine has, or use its container"
    differing = {name: found for name, found in report.versions.items() if found != here.versions[name]}
    if differing:
        name, found = next(iter(differing.items()))
        return f"node {report.node} has {name} {found}, this machine {here.versions[name]}: install the same on both"
    if report.storage_error:
        return f"node {report.node} cannot use storage {storage}: {report.storage_error}; {SHARED}"
    if not seen:
        return f"storage {storage} on node {report.node} is another folder than here: {SHARED}"
    return None


def _nodes_with_cpus() -> dict[str, str]:
    """Of every live node that can run trials: its identity, and a name that people know."""
    return {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["Resources"].get("CPU", 0.0) > 0
    }


def _ask(nodes: dict[str, str], folder: Location) -> dict[str, NodeReport]:
    ask = ray.remote(num_cpus=0, max_retries=0)(report_node)
    tasks = {
        node_id: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(
            node_id, name, folder
        )
        for node_id, name in nodes.items()
    }
    ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=ANSWER_SECONDS)
    return {node_id: _report(nodes[node_id], task) for node_id, task in tasks.items()}


def _report(node: str, task: Any) -> NodeReport:
    try:
        report: NodeReport = ray.get(task, timeout=0)
    except GetTimeoutError as error:
        raise RequestError(
            f"node {node} did not answer within {ANSWER_SECONDS:.0f} s: look at it, try again"
        ) from error
    except RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise RequestError(f"node {node} cannot run the search's code: {reason}") from error
    return report


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


FROM_DRIVER = "driver"


@contextmanager
def storage_probe(storage: Location) -> Iterator[Location]:
    """A folder in the storage with a file of this process; afterwards it is gone, and so is a storage made for it.

    Raises:
        RequestError: if the storage cannot be written.
    """
    try:
        with temporary_folder(storage) as folder:
            write_probe(folder, FROM_DRIVER)
            yield folder
    except OSError as error:
        raise RequestError(f"storage {storage} cannot be written: {error.strerror} (--storage)") from error


def write_probe(folder: Location, writer: str) -> None:
    """Leaves a file of this writer. Raises OSError if that cannot be."""
    (folder / writer).write_bytes(writer.encode())


def reads_probe(folder: Location, writer: str) -> bool:
    """Whether the file of that writer is there."""
    try:
        return (folder / writer).read_text() == writer
    except OSError:
        return False
