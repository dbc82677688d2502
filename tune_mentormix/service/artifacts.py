"""Reports, exports and pages about labels, made by our own commands in a separate process, one at a time.

A request waits a little and is then told to ask again; the file serves everyone until what it rests on has changed.
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

from fastapi import HTTPException

from tune_mentormix.errors import WRONG_REQUEST, RequestError
from tune_mentormix.service.experiments import ResultsVersion
from tune_mentormix.service.request_logging import log
from tune_mentormix.storage.paths import Location

Kind = Literal["report", "export", "verify", "labels"]
WAIT_SECONDS = 20.0  # of one request; most proxies give up after a minute
MAX_SECONDS = 600.0  # of one command
FRESH_SECONDS = 60.0  # for which a file is served although a driver has written to a journal since
MAX_WAITING = 8
MAX_KEPT = 16
LABELS_TABLE = "labels.csv"  # beside the page, which links to it
OUTPUTS: dict[Kind, dict[str, str]] = {  # option → file or folder that the command is to write
    "report": {"--out": "report.html"},
    "export": {"--out": "export"},
    "verify": {"--out": "verify"},
    "labels": {"--out": LABELS_TABLE, "--page": "labels.html"},
}
SERVED: dict[Kind, str] = {"report": "report.html", "verify": "verify/verify.html", "labels": "labels.html"}


@dataclass
class _Artifact:
    version: ResultsVersion
    folder: Path  # its own, with all that is made on the way
    task: asyncio.Task[Path]
    requested: float  # by the monotonic clock, as the next
    finished: float | None = None

    def is_stale(self, version: ResultsVersion) -> bool:
        """Whether it lacks something: while a journal grows, only answers, or what is a minute old."""
        if self.version[:2] == version[:2]:
            return False
        if not version.is_growing or self.version.answers != version.answers:
            return True
        return self.finished is not None and time.monotonic() - self.finished > FRESH_SECONDS


class Artifacts:
    """Files made on demand, in a folder that is removed with the server."""

    def __init__(self, storage: Location) -> None:
        self._storage = storage
        self.folder = Path(tempfile.mkdtemp(prefix="tune-mentormix-serve-"))
        self._artifacts: dict[tuple[Kind, str], _Artifact] = {}
        self._one_at_a_time = asyncio.Semaphore(1)

    async def get(self, kind: Kind, name: str, version: ResultsVersion) -> Path | None:
        """Returns the file of an experiment, or None while it is being made; `version` is that of what is stored now.

        A file whose making began before something was stored is not returned: it is made again. Raises RequestError
        if the command refused, with its message, and HTTPException 429 if too many wait already.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            artifact = self._artifacts.get((kind, name))
            if artifact is None or (artifact.task.done() and artifact.is_stale(version)):
                artifact = self._begin(kind, name, version, artifact)
            done, _ = await asyncio.wait([artifact.task], timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                return None
            if artifact.is_stale(version):
                continue
            try:
                path = artifact.task.result()
            except BaseException:
                if self._artifacts.get((kind, name)) is artifact:
                    del self._artifacts[kind, name]
                raise
            artifact.requested = time.monotonic()
            return path

    def close(self) -> None:
        """Ends what is being made, and removes all files."""
        for artifact in self._artifacts.values():
            artifact.task.cancel()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self, kind: Kind, name: str, version: ResultsVersion, replaced: _Artifact | None) -> _Artifact:
        if sum(not other.task.done() for other in self._artifacts.values()) >= MAX_WAITING:
            raise HTTPException(429, "too much is asked at once: ask again later")
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        task = asyncio.create_task(self._make(kind, name, folder, replaced.folder if replaced else None))
        artifact = self._artifacts[kind, name] = _Artifact(version, folder, task, time.monotonic())
        task.add_done_callback(lambda _: setattr(artifact, "finished", time.monotonic()))
        self._remove_unused()
        return artifact

    def _remove_unused(self) -> None:
        by_use = sorted(self._artifacts.items(), key=lambda item: item[1].requested)
        for key, artifact in by_use[: max(0, len(by_use) - MAX_KEPT)]:
            if artifact.task.done():
                asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, artifact.folder, True)
                del self._artifacts[key]

    async def _make(self, kind: Kind, name: str, folder: Path, replaced: Path | None) -> Path:
        """Makes the file; the one it replaces stays until then, for requests that have not opened it yet."""
        outputs = [word for option, file in OUTPUTS[kind].items() for word in (option, str(folder / file))]
        try:
            async with self._one_at_a_time:
                await _run([kind, name, *outputs, "--storage", str(self._storage)])
                if kind == "export":
                    return await asyncio.to_thread(_pack, folder / kind, name)
                return folder / SERVED[kind]
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        finally:
            if replaced:
                await asyncio.to_thread(shutil.rmtree, replaced, ignore_errors=True)


async def _run(arguments: list[str]) -> None:
    """Runs one of our commands. Raises RequestError with its message if it refused."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tune_mentormix", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "CUDA_VISIBLE_DEVICES": ""},
    )
    try:
        async with asyncio.timeout(MAX_SECONDS):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = errors.decode(errors="replace").strip().splitlines()
    if process.returncode == WRONG_REQUEST and lines:
        raise RequestError(lines[-1].removeprefix("error: "))
    if process.returncode:
        log(f"{arguments[0]} failed: {' | '.join(lines[-5:])}", logging.ERROR, experiment=arguments[1])
        raise RequestError(f"the {arguments[0]} of {arguments[1]} could not be made: see the server's log")


def _pack(folder: Path, name: str) -> Path:
    """Makes an archive, uncompressed since weights do not compress, with one folder named as the experiment."""
    packed = folder.with_suffix(".tar")
    with tarfile.open(packed, "w") as archive:
        archive.add(folder, arcname=name)
    shutil.rmtree(folder)
    return packed
