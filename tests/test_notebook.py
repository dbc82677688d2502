"""The notebook of the documentation runs, and shows the progress of its search."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[1] / "docs/quickstart.ipynb"


def run(notebook: nbformat.NotebookNode, folder: Path) -> list[str]:
    """Runs the cells in a kernel of its own; returns what each code cell shows."""
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    return [str(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_of_the_documentation_runs_and_shows_the_progress(tmp_path: Path) -> None:
    shown = run(nbformat.read(PAGE, as_version=4), tmp_path)  # type: ignore[no-untyped-call]
    assert "best so far" in shown[1], "the table"
    assert "<Experiment 'notebook': finished" in shown[1]
    assert "plain" in shown[2], "the data frame"
    assert not [cell for cell in shown if "'stderr'" in cell]
    assert (tmp_path / "best/provenance.json").is_file()
