"""The search under test as a user runs it: a command in a separate process, watched by its journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.patience import PATIENCE_SECONDS
from tune_mentormix.storage.journal import JOURNAL_FILE, read_events

REPOSITORY = Path(__file__).parents[2]


class Driver:
    """Runs one search of a storage folder, and starts it again with `resume` when it is gone."""

    def __init__(
        self, storage: Path, name: str, address: str, settings: dict[str, object], logs: Path | None = None
    ) -> None:
        """Nothing runs yet; `settings` become the search's settings file, in `logs` as what it prints."""
        storage.mkdir(parents=True, exist_ok=True)
        logs = logs or storage
        self.experiment = storage / name
        self.output = logs / f"{name}.log"
        self.output.touch()
        self._config = logs / f"{name}.yaml"
        self._config.write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
        self._where = ("--storage", str(storage), "--ray-address", address)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the search, or resumes it if it was started before."""
        name = self.experiment.name
        self._end_reader()
        if self.experiment.exists():
            self._process = self._run("resume", name)
        else:
            self._process = self._run("search", "--config", str(self._config), "--name", name)

    def refused(self) -> tuple[int, str]:
        """Tries to resume while it runs; the exit code and what was printed."""
        command = self._command("resume", self.experiment.name)
        ran = subprocess.run(
            command, cwd=REPOSITORY, env=driver_environment(), capture_output=True, text=True, check=False
        )
        return ran.returncode, ran.stderr

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> int:
        """Sends a signal, and returns the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(PATIENCE_SECONDS)

    def wait(self) -> int:
        """Waits until the driver ends; returns its exit code."""
        assert self._process is not None
        return self._process.wait(PATIENCE_SECONDS)

    def events(self, kind: str) -> int:
        """Counts the events of a kind that the journal holds so far."""
        journal = self.experiment / JOURNAL_FILE
        return sum(event["event"] == kind for event in read_events(journal)) if journal.exists() else 0

    def wait_for_reports(self, wanted: int) -> bool:
        """Until the journal holds so many reports; False if the search ended before."""
        return self.wait_for("report", wanted)

    def wait_for(self, kind: str, wanted: int) -> bool:
        """Until the journal holds so many events of a kind; False if the search ended before.

        Raises:
            AssertionError: if it takes too long, or the driver failed.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.events(kind) < wanted:
            if not self.is_running():
                assert self._process is not None
                assert self._process.returncode == 0, self.output.read_text()[-2000:]
                return False
            assert time.monotonic() < deadline, "no progress:\n" + self.output.read_text()[-2000:]
            time.sleep(0.1)
        return True

    def printed(self) -> int:
        """Returns how many bytes were printed so far."""
        return self.output.stat().st_size

    def wait_for_line(self, words: str, position: int, seconds: float) -> float | None:
        """Waits until these words are printed after a position; returns the seconds, None if the driver ended before.

        Raises:
            AssertionError: if it takes longer than `seconds`.
        """
        began = time.monotonic()
        while words not in self.output.read_bytes()[position:].decode(errors="replace"):
            if not self.is_running():
                return None
            waited = time.monotonic() - began
            assert waited < seconds, f"nobody printed {words!r}:\n" + self.output.read_text()[-2000:]
            time.sleep(0.1)
        return time.monotonic() - began

    def cut_output(self) -> None:
        """Ends the process that reads what the driver prints."""
        assert self._reader is not None
        self._reader.kill()

    def close(self) -> None:
        """Kills the driver if it runs."""
        if self.is_running():
            self.signal(signal.SIGKILL)
        self._end_reader()

    def _end_reader(self) -> None:
        """Waits until all that a driver printed is in the file."""
        if self._reader:
            self._reader.wait(PATIENCE_SECONDS)

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a command whose output goes through a pipe, as to a pager."""
        with self.output.open("ab") as output:
            self._reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output)
        assert self._reader.stdin is not None
        with self._reader.stdin as pipe:
            return subprocess.Popen(
                self._command(*arguments), cwd=REPOSITORY, env=driver_environment(), stdout=pipe, stderr=pipe
            )

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "run_search.py", *arguments, *self._where]


def driver_environment() -> dict[str, str]:
    """Returns the environment of a process that joins a cluster of this machine."""
    # On Linux, too, Ray then takes 127.0.0.1 for what it says, as the cluster here listens there alone.
    return os.environ | {"OMP_NUM_THREADS": "1", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
