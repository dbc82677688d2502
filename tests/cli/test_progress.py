"""The progress of a search on a terminal that is closed while it runs, in a process of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.support.simulated_search import simulate_search

SHOW = """
import signal, sys, time
from pathlib import Path
from tune_mentormix.cli.progress import SearchProgress
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.output import guarded, lost_streams

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as after `trap '' HUP`
experiment = read_experiment(Path(sys.argv[1]), "birds")
with guarded("stderr"), SearchProgress() as progress:
    progress(experiment)
    print("shown", file=sys.__stdout__, flush=True)  # not through the live table
    sys.stdin.readline()
    deadline = time.monotonic() + 20
    while not lost_streams() and time.monotonic() < deadline:
        time.sleep(0.1)
        progress(experiment)
print(lost_streams())
"""


def test_a_terminal_that_was_closed_under_a_search_counts_as_lost(tmp_path: Path) -> None:
    simulate_search(tmp_path, "birds", 3, epochs=4)
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=its,
        text=True,
    )
    os.close(its)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "shown\n"
    os.close(ours)
    told, _ = process.communicate("\n", timeout=60)
    assert told == "{'stderr': 'Input/output error'}\n"
