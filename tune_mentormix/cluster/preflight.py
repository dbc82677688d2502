"""Checks before anything is created: resources, and on every node of a cluster its packages and the storage."""

from __future__ import annotations

import logging
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.errors import DeviceError, PluginError, one_line
from trainables.files import sha256_of
from trainables.plugins import CHECK_SECONDS, in_words, sendable, why_not_usable
from trainables.settings import TIMM_PREFIX
from tune_mentormix.cluster.connection import joins_cluster
from tune_mentormix.cluster.resources import check_resources, live_nodes
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, temporary_folder

# Distributions and what they are imported as: all that a trial needs on its node.
NEEDED_PACKAGES = {
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
SAME_VERSIONS = ("ray", "torch", "numpy")  # a state written by one must be read by another, to the same figures
REPORT_SECONDS = 120.0  # for all nodes at once; most of it is a node fetching the code and starting a worker
MAX_ATTEMPTS = 3  # to ask a node: where its processes are killed, Ray may learn of it a second later
DRIVER = "driver"  # the file that the driver writes into the storage for the nodes to read
_SHARED = "on a cluster --storage must be a folder that every node sees, such as NFS, or s3://…"

ListNodes = Callable[[], dict[str, str]]  # live nodes: ID → a name that people know

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeReport:
    """A node's versions, the packages missing there, its files, and why the storage does not work from there."""

    node: str
    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    storage_error: str | None = None
    files: dict[str, str | None] = field(default_factory=dict)  # path → sha256; None: it cannot be read there


@dataclass(frozen=True)
class Needed:
    """What a search needs on each node besides what every search needs."""

    packages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()  # of weights

    @classmethod
    def of(cls, settings: SearchSettings) -> Needed:
        """Returns what trials with these settings need."""
        packages = ("timm",) if settings.network.startswith(TIMM_PREFIX) else ()
        return cls(packages, tuple(settings.weights_files()))


def check_cluster(settings: SearchSettings) -> frozenset[str]:
    """Checks that trials can run where they will be sent.

    On this machine alone, it checks the resources and the device. On a cluster, a task that takes no resources also
    runs on every node: it must have what a trial imports, in the driver's versions, the weights files that trials
    start from, and see the same storage. A node that dies while it is checked is skipped.

    Returns the IDs of the nodes that were checked. Raises RequestError that names the node, and what is wrong there.
    """
    check_resources(settings)
    if not joins_cluster(settings.address):
        _check_device(settings)
        _check_plugins(settings, node_names)
        return frozenset(node_names())
    checked = check_nodes(settings, node_names)
    check_resources(settings)  # of the nodes that are left
    return checked


def check_nodes(settings: SearchSettings, list_nodes: ListNodes) -> frozenset[str]:
    """Checks the nodes that `list_nodes` returns, whenever it is called, and returns their IDs.

    Raises RequestError for the first that should not run trials, or if all died while they were checked.
    """
    needed = Needed.of(settings)
    with storage_probe(settings.storage) as folder:
        reports = _ask_nodes(folder, needed, list_nodes)
        seen = {node_id: reads_probe(folder, node_id) for node_id in reports}
    here = report_packages("the driver", needed)
    for node_id, report in reports.items():
        reason = incompatibility(report, here, seen[node_id], settings.storage)
        if reason:
            raise RequestError(reason)
    _check_plugins(settings, list_nodes)
    return frozenset(reports)


def _check_device(settings: SearchSettings) -> None:
    """Raises RequestError if torch does not find the device on this machine."""
    if settings.device not in ("auto", "cpu"):
        from trainables.device import find_device  # imports torch

        try:
            find_device(settings.device)
        except DeviceError as error:
            raise RequestError(f"{error} (--device)") from error


def _check_plugins(settings: SearchSettings, list_nodes: ListNodes) -> None:
    """Raises RequestError unless every one of these nodes can import the plug-ins of the search within a time."""
    kinds = {name: kind for name, kind in settings.plugins().items() if kind != "dataset"}  # which is loaded here
    if not kinds:
        return
    try:
        plugins = sendable(kinds)
    except PluginError as error:
        raise RequestError(str(error)) from error
    ask = ray.remote(num_cpus=0, max_retries=0)(why_not_usable)
    answer_seconds = REPORT_SECONDS + CHECK_SECONDS  # for starting a worker, and then for the import
    for node_id, node in list_nodes().items():
        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        task = ask.options(scheduling_strategy=there).remote(plugins)
        try:
            reason = ray.get(task, timeout=answer_seconds)
        except (NodeDiedError, TaskUnschedulableError):
            continue  # the other nodes are used
        except GetTimeoutError as error:
            ray.cancel(task, force=True)
            raise RequestError(
                f"{in_words(kinds)} cannot be imported on node {node}: no answer within {answer_seconds:g} s"
            ) from error
        except RayError as error:
            why = " ".join(str(getattr(error, "cause", None) or error).split())[-300:]
            raise RequestError(f"{in_words(kinds)} cannot be used on node {node}: {why}") from error
        if reason:
            raise RequestError(f"{reason} (on node {node})")


def incompatibility(report: NodeReport, here: NodeReport, seen: bool, storage: Location) -> str | None:
    """Returns in one line why no trial should run on a node, or None. `seen`: the node's file was found from here."""
    if report.missing:
        needed = ", ".join(report.missing)
        return f"node {report.node} lacks {needed}: install there what this machine has, or use its container"
    differing = {name: found for name, found in report.versions.items() if found != here.versions[name]}
    if differing:
        name, found = next(iter(differing.items()))
        return f"node {report.node} has {name} {found}, this machine {here.versions[name]}: install the same on both"
    for path, digest in here.files.items():
        there = report.files.get(path)
        if there is None:
            return f"node {report.node} cannot read weights {path}: put the file there, or where every node sees it"
        if there != digest:
            return f"weights {path} on node {report.node} are others than on this machine: put the same file there"
    if report.storage_error:
        return f"node {report.node} cannot use storage {storage}: {report.storage_error}; {_SHARED}"
    if not seen:
        return f"storage {storage} on node {report.node} is another folder than here: {_SHARED}"
    return None


def report_packages(node: str, needed: Needed | None = None, storage_error: str | None = None) -> NodeReport:
    """Looks up, without importing any of them, which packages this Python has, and reads the weights files."""
    needed = needed or Needed()
    packages = NEEDED_PACKAGES | {name: name for name in needed.packages}
    missing = [name for name, module in packages.items() if find_spec(module) is None]
    same = (*SAME_VERSIONS, *needed.packages)
    versions = {"python": platform.python_version()} | {name: _version(name) for name in same}
    return NodeReport(node, versions, missing, storage_error, {str(path): _digest(path) for path in needed.files})


def report_node(node_id: str, name: str, probe: Location, needed: Needed) -> NodeReport:
    """Runs on a node: reads the driver's file from the folder `probe`, writes the node's own, and reports."""
    try:
        if not reads_probe(probe, DRIVER):
            return report_packages(name, needed, "what the driver wrote is not there")
        (probe / node_id).write_bytes(node_id.encode())
    except OSError as error:
        return report_packages(name, needed, one_line(error))
    return report_packages(name, needed)


@contextmanager
def storage_probe(storage: Location) -> Iterator[Location]:
    """Yields a temporary folder with a file of this process. Raises RequestError if the storage cannot be written."""
    try:
        with temporary_folder(storage) as folder:
            (folder / DRIVER).write_bytes(DRIVER.encode())
            yield folder
    except OSError as error:
        raise RequestError(f"storage {storage} cannot be written: {one_line(error)} (--storage)") from error


def reads_probe(folder: Location, writer: str) -> bool:
    """Whether the file of that writer is there."""
    try:
        return (folder / writer).read_text() == writer
    except OSError:
        return False


def _ask_nodes(folder: Location, needed: Needed, list_nodes: ListNodes) -> dict[str, NodeReport]:
    """Returns a report of each of these nodes, by node ID.

    Ray may still list a node that has died: it is skipped, and the list read again for one that came in its place.
    """
    reports: dict[str, NodeReport] = {}
    lost: set[str] = set()
    attempts: Counter[str] = Counter()
    ask = ray.remote(num_cpus=0, max_retries=0)(report_node)
    while nodes := {key: name for key, name in list_nodes().items() if key not in reports.keys() | lost}:
        tasks = {}
        for node_id, name in nodes.items():
            there = NodeAffinitySchedulingStrategy(node_id, soft=False)
            tasks[node_id] = ask.options(scheduling_strategy=there).remote(node_id, name, folder, needed)
        ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=REPORT_SECONDS)
        for node_id, task in tasks.items():
            attempts[node_id] += 1
            try:
                reports[node_id] = ray.get(task, timeout=0)
            except RayError as error:
                if isinstance(error, NodeDiedError | TaskUnschedulableError) or node_id not in list_nodes():
                    LOGGER.warning("node %s died while it was checked: the other nodes are used", nodes[node_id])
                    lost.add(node_id)
                elif isinstance(error, GetTimeoutError):
                    raise RequestError(
                        f"node {nodes[node_id]} did not answer within {REPORT_SECONDS:.0f} s: look at it, try again"
                    ) from error
                elif attempts[node_id] == MAX_ATTEMPTS:
                    reason = " ".join(str(error).split())[:300]
                    raise RequestError(f"node {nodes[node_id]} cannot run the search's code: {reason}") from error
                else:
                    time.sleep(1)
    if not reports:
        raise RequestError("no node that can run trials is left in the cluster: start one, then try again")
    return reports


def node_names() -> dict[str, str]:
    """Returns the IDs of the live nodes that can run trials, each with a name that people know."""
    return {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in live_nodes()
        if node["Resources"].get("CPU", 0.0) > 0
    }


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"
