"""The wheel alone is enough: ten lines search on arrays and with a network of one's own, from an empty folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.searches import run_script

ROOT = Path(__file__).parents[1]
SCRIPT = """\
import numpy as np
import tune_mentormix as tm
from torch import nn

labels = np.random.default_rng(0).integers(0, 3, 90)
images = (np.random.default_rng(1).integers(0, 60, (90, 8, 8, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
def net(classes, channels):
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, classes))
mine = tm.search("mine", dataset=(images, labels), network=net, epochs=8, trials=3, batch_size=16)
print(mine, tm.__file__)
"""


@pytest.mark.cluster
def test_ten_lines_search_from_an_empty_folder_with_the_wheel_alone(tmp_path: Path) -> None:
    uv = shutil.which("uv") or shutil.which(ROOT / ".boot" / "bin" / "uv")
    if uv is None:
        pytest.skip("uv is not here, which builds the wheel")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT], check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    installed = tmp_path / "installed"  # before the checkout on Python's path; packages that it needs are those here
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", installed, wheel],
        check=True,
    )
    empty, script = tmp_path / "empty", tmp_path / "scripts" / "ten_lines.py"
    empty.mkdir()
    script.parent.mkdir()
    script.write_text(SCRIPT)
    assert len(SCRIPT.splitlines()) == 10
    printed = run_script(script, empty, installed)
    assert "<Experiment 'mine': finished, best " in printed
    assert str(installed) in printed
    assert [path.name for path in empty.iterdir()] == ["results"]
