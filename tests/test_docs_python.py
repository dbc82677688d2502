"""The examples of docs/python.md, and the one of docs/plug-ins.md, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.searches import run_script

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
def test_the_example_of_a_network_runs_as_a_script(tmp_path: Path) -> None:
    [block] = re.findall(r"^```python\n(import numpy.*?)^```$", (ROOT / "docs/plug-ins.md").read_text(), re.M | re.S)
    script = tmp_path / "birds.py"
    script.write_text(f"{block}\nassert mine.status().trials.finished, mine.status().trials\n")
    run_script(script, tmp_path, ROOT)
    assert (tmp_path / "results" / "mine" / "search.yaml").is_file()
