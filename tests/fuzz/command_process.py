"""Runs commands of the program one after another in a process of its own, and measures each.

A process for each command would spend its time on imports. The process has a limit on its memory, so that a command
that wants too much fails in the test and not on the machine.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
NOWHERE = "127.0.0.1:9"  # the port `discard`, at which nothing listens
MEMORY_BYTES = 1_000_000_000  # that a command may take beyond what its imports have taken
MAX_SECONDS = 60.0  # until a command counts as hanging
EXPENSIVE_IMPORTS = (
    *("tune_mentormix.cli.app", "tune_mentormix.search.run", "tune_mentormix.search.confirm", "sklearn.datasets"),
    *("tune_mentormix.report.page", "tune_mentormix.export.write", "tune_mentormix.export.train", "torchvision"),
    *("tune_mentormix.export.evaluate", "tune_mentormix.search.dry_run", "tune_mentormix.service.server"),
    *("tune_mentormix.experiment.optuna_study", "tune_mentormix.cluster.jobs", "torchvision.models"),
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    words: list[str]
    code: int | str  # the exit code, or the exception that left the program
    stdout: str
    stderr: str
    seconds: float  # of the processor: the wall clock tells of other processes
    memory: int  # bytes at the highest, beyond those before the command


class CommandProcess:
    """A process that runs commands one after another; a new one after each that hangs or dies."""

    def __init__(self, home: Path) -> None:
        """Commands see `home` as the user's, so that caches do not reach the true one."""
        self._environment = os.environ | {
            **{"HOME": str(home), "PYTHONPATH": str(REPOSITORY), "COLUMNS": "160", "OMP_NUM_THREADS": "1"},
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), f"http://{NOWHERE}"),
            **{
                "STORAGE_PATIENCE_SECONDS": "1",
                "RAY_ADDRESS": NOWHERE,
                "RAY_API_SERVER_ADDRESS": f"http://{NOWHERE}",
            },
        }
        self._process: subprocess.Popen[str] | None = None

    def run(self, words: list[str], folder: Path) -> Outcome:
        """Runs one command in a folder."""
        process = self._process if self._process and self._process.poll() is None else self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([words, str(folder)]) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], MAX_SECONDS)
        answer = process.stdout.readline() if ready else ""
        if not answer:
            how = f"died with {process.wait()}" if ready else f"ran for more than {MAX_SECONDS:g} s"
            self.stop()
            return Outcome(words, how, "", "", MAX_SECONDS, 0)
        return Outcome(words, **json.loads(answer))

    def stop(self) -> None:
        """Ends the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.command_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=REPOSITORY,
            env=self._environment,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self._process


def serve() -> None:
    """Runs the commands that come on stdin, a line each, and answers each with a line on what was stdout."""
    answers = os.fdopen(os.dup(1), "w")
    with _captured():
        for module in EXPENSIVE_IMPORTS:
            __import__(module)
    data = _status("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (data + 2 * MEMORY_BYTES, resource.RLIM_INFINITY))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        words, folder = json.loads(line)
        print(json.dumps(_measured(words, folder)), file=answers, flush=True)


def _measured(words: list[str], folder: str) -> dict[str, Any]:
    from tune_mentormix.cli.app import run

    os.chdir(folder)
    sys.argv = [str(REPOSITORY / "run_search.py"), *words]
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before, started = _status("VmRSS"), time.process_time()
    with _captured() as texts:
        code: int | str
        try:
            code = run(words)
        except BaseException as error:  # whatever leaves the program is a finding
            import traceback

            frames = traceback.extract_tb(error.__traceback__)
            code = f"{type(error).__name__}: {error} at {frames[-1].filename}:{frames[-1].lineno}"
    seconds, memory = time.process_time() - started, _status("VmHWM") - before
    return {"code": code, "seconds": seconds, "memory": memory, "stdout": texts[0], "stderr": texts[1]}


@contextmanager
def _captured() -> Iterator[list[str]]:
    """Yields a list that gets what the block writes to stdout and to stderr, also what native code writes."""
    texts: list[str] = []
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        for number, file in enumerate((stdout, stderr), start=1):
            os.dup2(file.fileno(), number)
        try:
            yield texts
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            for file in (stdout, stderr):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    serve()
