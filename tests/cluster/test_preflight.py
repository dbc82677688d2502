"""How the reports of nodes are compared. `tests/faults` shows that every node is really asked.

Nodes of a cluster on one machine share its disk and its packages, so what differs is made up here.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from tune_mentormix.cluster.preflight import (
    DRIVER,
    NodeReport,
    incompatibility,
    reads_probe,
    report_node,
    report_packages,
    storage_probe,
)
from tune_mentormix.errors import RequestError

HERE = report_packages("the driver")
NODE = replace(HERE, node="gpu-7 (10.0.0.7)")
STORAGE = Path("results")


def refusal(report: NodeReport, seen: bool = True) -> str:
    return incompatibility(report, HERE, seen, STORAGE) or ""


def test_a_node_like_this_machine_that_sees_the_storage_is_fine() -> None:
    assert refusal(NODE) == ""
    assert HERE.missing == []


def test_a_missing_package_is_named_with_its_node() -> None:
    line = refusal(replace(NODE, missing=["torch"]))
    assert line.startswith("node gpu-7 (10.0.0.7) lacks torch")


@pytest.mark.parametrize("package", ["python", "ray", "torch", "numpy"])
def test_another_version_is_named_with_both(package: str) -> None:
    line = refusal(replace(NODE, versions=HERE.versions | {package: "0.1"}))
    assert f"{package} 0.1" in line
    assert HERE.versions[package] in line


def test_a_folder_that_only_one_machine_has_is_refused_with_the_way_out() -> None:
    for report, seen in ((NODE, False), (replace(NODE, storage_error="Permission denied"), True)):
        line = refusal(report, seen)
        assert "gpu-7" in line
        assert "NFS" in line
        assert "\n" not in line


def test_a_node_that_sees_another_folder_of_the_same_name_is_an_error(tmp_path: Path) -> None:
    assert report_node("a", "gpu-7", tmp_path).storage_error == "what the driver wrote is not there"
    with storage_probe(tmp_path) as folder:
        assert report_node("a", "gpu-7", folder).storage_error is None
        assert reads_probe(folder, "a")


def test_a_probe_leaves_neither_files_nor_folders_it_made(tmp_path: Path) -> None:
    with storage_probe(tmp_path / "new" / "results") as folder:
        assert reads_probe(folder, DRIVER)
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be written"), storage_probe(tmp_path / "file" / "results"):
        pass
