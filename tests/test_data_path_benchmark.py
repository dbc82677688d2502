"""The data path benchmark runs, and writes what the project's scripts rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "data_path.py"


def test_the_data_path_benchmark_writes_its_ratios(tmp_path: Path) -> None:
    result_file = tmp_path / "result.json"
    subprocess.run(
        [sys.executable, SCRIPT, "--json", result_file, "--rounds", "1", "--images", "256"],
        check=True,
        capture_output=True,
        timeout=120,
    )

    result = json.loads(result_file.read_text())
    assert {"benchmark", "machine", "versions", "n", "rows", "ratios"} <= set(result)
    assert result["benchmark"] == "data_path"
    assert result["n"] == 1
    assert set(result["ratios"]) == {
        f"ours_over_fastest_loader/{name}" for name in ("none", "crop_flip", "reference")
    }
    assert all(ratio > 0 for ratio in result["ratios"].values())
