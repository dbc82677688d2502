"""A notebook shows the progress of a search, and its kernel survives an interrupted one."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.cluster

PAGE = Path(__file__).parents[1] / "docs/quickstart.ipynb"
# Jupyter sends SIGINT to the whole group of processes, in which Ray's own are.
INTERRUPTED = """
import os, signal
import tune_mentormix as tm

def interrupt(status):
    if status.epochs_run and not sent:
        sent.append(True)
        os.killpg(0, signal.SIGINT)

sent = []
tm.search("cut", dataset="digits", max_images=600, epochs=30, trials=2, on_progress=interrupt)
"""
RESUMED = "print(tm.open('cut').status().state, '→', tm.resume('cut').status().state)"


def run(notebook: nbformat.NotebookNode, folder: Path, allow_errors: bool = False) -> list[str]:
    """Runs the cells in a kernel of its own; returns what each code cell shows."""
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, allow_errors=allow_errors, resources=resources).execute()
    return [str(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_of_the_documentation_runs_and_shows_the_progress(tmp_path: Path) -> None:
    shown = run(nbformat.read(PAGE, as_version=4), tmp_path)  # type: ignore[no-untyped-call]
    assert "best so far" in shown[1], "the table"
    assert "<Experiment 'notebook': finished" in shown[1]
    assert "plain" in shown[2], "the data frame"
    assert not [cell for cell in shown if "'stderr'" in cell]
    assert (tmp_path / "best/provenance.json").is_file()


def test_interrupting_the_kernel_ends_the_search_cleanly_and_the_next_cell_resumes_it(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in (INTERRUPTED, RESUMED)]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    interrupted, resumed = run(notebook, tmp_path, allow_errors=True)
    assert "KeyboardInterrupt" in interrupted
    assert "cut was interrupted: tune_mentormix.resume continues it" in interrupted
    assert "interrupted → finished" in resumed
