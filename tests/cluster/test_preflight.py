"""How the reports of nodes are compared. `tests/faults` shows that every node is really asked.

Nodes of a cluster on one machine share its disk and its packages, so what differs is made up here.
"""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tune_mentormix.cluster.preflight import (
    DRIVER,
    Needed,
    NodeReport,
    incompatibility,
    reads_probe,
    report_node,
    report_packages,
    storage_probe,
)
from tune_mentormix.config.settings import SearchSettings
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
    assert report_node("a", "gpu-7", tmp_path, Needed()).storage_error == "what the driver wrote is not there"
    with storage_probe(tmp_path) as folder:
        assert report_node("a", "gpu-7", folder, Needed()).storage_error is None
        assert reads_probe(folder, "a")


def test_a_probe_leaves_neither_files_nor_folders_it_made(tmp_path: Path) -> None:
    with storage_probe(tmp_path / "new" / "results") as folder:
        assert reads_probe(folder, DRIVER)
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be written"), storage_probe(tmp_path / "file" / "results"):
        pass


def test_a_node_without_timm_is_refused_where_the_network_is_timms() -> None:
    assert "timm" not in HERE.versions
    settings = SearchSettings(network="timm/resnet18")
    here = report_packages("the driver", Needed.of(settings))
    there = replace(here, node="gpu-7", versions=here.versions | {"timm": "0.9"})
    assert here.missing == ([] if find_spec("timm") else ["timm"])
    assert "gpu-7 has timm 0.9" in (incompatibility(there, here, True, STORAGE) or "")


def test_a_node_needs_the_same_weights_file(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    for settings in (
        SearchSettings(trial={"weights": str(file)}),
        SearchSettings(space={"weights": str(file), "mixup_alpha": {"low": 1, "high": 2}}),
        SearchSettings(space={"weights": {"choices": [None, str(file)]}}),
    ):
        needed = Needed.of(settings)
        here = report_packages("the driver", needed)
        assert incompatibility(replace(here, node="gpu-7"), here, True, STORAGE) is None
        lacking = replace(here, node="gpu-7", files={str(file): None})
        line = incompatibility(lacking, here, True, STORAGE) or ""
        assert line.startswith(f"node gpu-7 cannot read weights {file}: put the file there")
        other = replace(here, node="gpu-7", files={str(file): "0"})
        line = incompatibility(other, here, True, STORAGE) or ""
        assert line.startswith(f"weights {file} on node gpu-7 are others than on this machine")
    assert report_packages("gone", Needed(files=(tmp_path / "none",))).files == {str(tmp_path / "none"): None}
