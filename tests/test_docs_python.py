"""The examples of docs/python.md, and the one of docs/plug-ins.md, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.cluster
def test_the_examples_of_the_python_page_run(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert "<Experiment 'birds': finished, best 0." in capsys.readouterr().out
    assert list(names["frame"]["trial"]) == [0, 1, 2]
    assert names["mine"].best.val_accuracy > 0.6, "the classes differ in brightness"
    assert names["probabilities"].shape == (2, 10)
    assert names["experiment"].status().num_samples == 4


@pytest.mark.slow
def test_the_example_of_a_network_runs(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"^```python\n(import numpy.*?)^```$", (ROOT / "docs/plug-ins.md").read_text(), re.M | re.S)
    names: dict[str, Any] = {"__name__": "tests.test_docs_python"}
    exec(block, names)
    assert names["mine"].status().trials.failed == 0
