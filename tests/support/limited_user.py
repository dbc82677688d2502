"""Runs our commands as a user whom file permissions stop, in a process of its own: they stop root nowhere."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[2]
RIGHTS = "-dac_override,-dac_read_search"  # of root, to read and write what permissions forbid


class Ran(NamedTuple):
    """What one command did."""

    code: int | None  # None after an exception
    stdout: str
    stderr: str  # with the traceback of an exception


def run_limited(commands: list[list[str]]) -> list[Ran]:
    """Runs commands one after another; skips the test where root cannot be limited."""
    limit: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("without setpriv, permissions do not stop root")
        limit = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]
    ran = subprocess.run(
        [*limit, sys.executable, "-m", __name__],
        cwd=REPOSITORY,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
    )
    return [Ran(*fields) for fields in json.loads(ran.stdout)]


def _run(arguments: list[str]) -> Ran:
    from tune_mentormix.cli.app import run

    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
        code = None
        try:
            code = run(arguments)
        except Exception:
            traceback.print_exc()
    return Ran(code, stdout.getvalue(), stderr.getvalue())


if __name__ == "__main__":
    print(json.dumps([_run(arguments) for arguments in json.load(sys.stdin)]))
