"""Reading settings, or looking for whole checkpoints, is cheap: it loads neither torch nor Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["trainables.settings", "trainables.files", "trainables.data"])
def test_a_cheap_module_imports_neither_torch_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_training_does_not_import_ray() -> None:
    code = "import sys, trainables.checkpoint; print('ray' in sys.modules)"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "False"
