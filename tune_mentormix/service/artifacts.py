"""Reports and exports, made by our own commands in a process of their own: their libraries and memory are not ours.

One is made at a time. Whoever asks waits a little and is then told to ask again; what was made is given to everyone
until the experiment has grown, and a while longer while it runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tune_mentormix.errors import WRONG_REQUEST, RequestError
from tune_mentormix.service.logs import log
from tune_mentormix.storage.paths import Location

Kind = Literal["report", "export"]
WAIT_SECONDS = 20.0  # of one request; most proxies give up after a minute
MOST_SECONDS = 600.0  # of one command
FRESH_SECONDS = 60.0  # of one that is served although the experiment has grown since
MOST_WAITING = 8
MOST_KEPT = 16


class BusyError(Exception):
    """Too much is being made already."""


@dataclass
class _Made:
    version: object
    folder: Path  # of its own, with all that is made on the way
    task: asyncio.Task[Path]
    asked: float  # by the monotonic clock, as the next
    finished: float | None = None


class Artifacts:
    """Files made on demand, in a folder that goes with the server."""

    def __init__(self, storage: Location) -> None:
        """Of the experiments of one storage."""
        self._storage = storage
        self.folder = Path(tempfile.mkdtemp(prefix="tune-mentormix-serve-"))
        self._made: dict[tuple[Kind, str], _Made] = {}
        self._one_at_a_time = asyncio.Semaphore(1)

    async def get(self, kind: Kind, name: str, version: object) -> Path | None:
        """The file, or None while it is being made.

        Args:
            kind: what to make.
            name: of the experiment.
            version: of what is stored now.

        Raises:
            RequestError: if the command refused, in its words.
            BusyError: if too many wait already.
        """
        made = self._made.get((kind, name))
        if made is None or self._is_stale(made, version):
            if sum(not other.task.done() for other in self._made.values()) >= MOST_WAITING:
                raise BusyError
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            making = asyncio.create_task(self._make(kind, name, folder, made.folder if made else None))
            made = _Made(version, folder, making, time.monotonic())
            self._made[kind, name] = made
            self._forget_some()
        done, _ = await asyncio.wait([made.task], timeout=WAIT_SECONDS)
        if not done:
            return None
        try:
            path = made.task.result()
        except BaseException:
            if self._made.get((kind, name)) is made:
                del self._made[kind, name]
            raise
        made.asked = time.monotonic()
        made.finished = made.finished or made.asked
        return path

    def close(self) -> None:
        """Ends what is being made, and removes all files."""
        for made in self._made.values():
            made.task.cancel()
        _remove(self.folder)

    def _is_stale(self, made: _Made, version: object) -> bool:
        if not made.task.done() or made.version == version:
            return False
        return made.finished is None or time.monotonic() - made.finished > FRESH_SECONDS

    def _forget_some(self) -> None:
        by_use = sorted(self._made.items(), key=lambda item: item[1].asked)
        for key, made in by_use[: max(0, len(by_use) - MOST_KEPT)]:
            if made.task.done():
                asyncio.get_running_loop().run_in_executor(None, _remove, made.folder)
                del self._made[key]

    async def _make(self, kind: Kind, name: str, folder: Path, replaced: Path | None) -> Path:
        """The file; what it replaces stays until then, for whoever was given that and has not opened it yet."""
        target = folder / ("report.html" if kind == "report" else kind)
        try:
            async with self._one_at_a_time:
                await _run([kind, name, "--out", str(target), "--storage", str(self._storage)])
                return target if kind == "report" else await asyncio.to_thread(_packed, target, name)
        except BaseException:
            await asyncio.to_thread(_remove, folder)
            raise
        finally:
            if replaced:
                await asyncio.to_thread(_remove, replaced)


async def _run(arguments: list[str]) -> None:
    """One of our commands. Raises RequestError with its own words if it refused."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from tune_mentormix.cli.app import main; main()", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "CUDA_VISIBLE_DEVICES": ""},
    )
    try:
        async with asyncio.timeout(MOST_SECONDS):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    words = said.decode(errors="replace").strip().splitlines()
    if process.returncode == WRONG_REQUEST and words:
        raise RequestError(words[-1].removeprefix("error: "))
    if process.returncode:
        log(f"{arguments[0]} failed: {' | '.join(words[-5:])}", logging.ERROR, experiment=arguments[1])
        raise RequestError(f"the {arguments[0]} of {arguments[1]} could not be made: the server's log says why")


def _packed(folder: Path, name: str) -> Path:
    """Weights do not compress: a plain archive, in which the folder is called as the experiment."""
    packed = folder.with_suffix(".tar")
    with tarfile.open(packed, "w") as archive:
        archive.add(folder, arcname=name)
    shutil.rmtree(folder)
    return packed


def _remove(folder: Path) -> None:
    """With all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
