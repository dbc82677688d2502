"""Files that survive a crash: atomic writes, retries with back-off, and checkpoints that are known to be intact.

A manifest holds the size and the SHA-256 of a checkpoint's files, since a worker that dies while it writes or uploads
a checkpoint leaves its files incomplete, in any order. Free of torch: the driver of a search reads it too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from filelock import FileLock

from trainables.errors import StorageUnavailableError, one_line

logger = logging.getLogger(__name__)

RETRY_TIMEOUT_SECONDS = float(os.environ.get("STORAGE_PATIENCE_SECONDS", "600"))
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 1.0, 30.0
STATE_FILE = "trial.pt"
PROBABILITIES_FILE = "validation_probabilities.npy"  # [M, K] float16, of the checkpoint's epoch
EXAMPLE_WEIGHTS_FILE = "example_weights.npy"  # [N] float16, means over the epochs after burn-in
MANIFEST_FILE = "manifest.json"
ARRAYS = {"probabilities": PROBABILITIES_FILE, "example_weights": EXAMPLE_WEIGHTS_FILE}  # by their key in a manifest
IDENTITY = ("trial", "attempt", "epoch")  # in a manifest: of the search's trial; not in those of version 0.1.0

MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095  # of Linux and its usual filesystems

Result = TypeVar("Result")


def user_path(given: str | Path) -> Path:
    """Returns a path that a user gave, with `~` expanded. Raises ValueError if no file can have it."""
    text = str(given)
    try:
        names = text.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise ValueError(f"must be a path in UTF-8, got {text!r}") from error
    if not text or "\0" in text or len(text) > MAX_PATH_BYTES or max(map(len, names)) > MAX_NAME_BYTES:
        shown = repr(text) if len(text) <= 60 else f"{text[:40]!r}… of {len(text):,} characters"
        raise ValueError(f"must be a path that a file can have, got {shown}")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"must be a path, but there is no user {text.split('/')[0][1:]!r}: {text!r}") from error


def refuse_pipe(path: Path) -> None:
    """Raises OSError for a named pipe: a reader would wait for it. That of a shell's `<(…)`, below /dev, passes."""
    if stat.S_ISFIFO(path.stat().st_mode) and path.parts[:2] != ("/", "dev"):
        raise OSError(errno.EINVAL, "it is a pipe, not a file")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; the file written there replaces `path` when the block succeeds.

    A crash at any moment leaves the old file or the new one, never a part. If the block raises, the temporary file is
    deleted: on a full disk it would take what is left. Raises OSError where `path` is a device or a pipe, which the
    file would replace.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "a device or a pipe stands there, give a file", str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)  # the rename itself
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replaces the file as a whole (see `atomic_path`); text is written as UTF-8. Raises OSError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def locked_folder(folder: Path, lock: str, partial: str) -> Iterator[None]:
    """Makes a folder and holds a lock in it while the block runs: one process does the work, the others wait for it.

    If the block raises, nothing that it made is left: not the lock's file, not the file `partial`, no new folder.
    Raises OSError if the folder cannot be made or written to.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    new = [lock] if (folder / partial).exists() else [lock, partial]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / lock):
            yield
    except BaseException:
        with suppress(OSError):  # another process may use the folder
            for name in new:
                (folder / name).unlink(missing_ok=True)
            for each in made:
                each.rmdir()
        raise


def backoff_delays() -> Iterator[float]:
    """Yields the seconds to wait before each retry: doubling up to `MAX_DELAY_SECONDS`, without end."""
    delay = FIRST_DELAY_SECONDS
    while True:
        yield delay
        delay = min(2 * delay, MAX_DELAY_SECONDS)


def retry_with_backoff(work: Callable[[], Result], on_wait: Callable[[str], object] | None = None) -> Result:
    """Calls `work` until it raises no OSError: a storage that is full or unreachable should not cost a trial.

    `on_wait` is called with the reason before each wait. Raises StorageUnavailableError with the last reason after
    `RETRY_TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + RETRY_TIMEOUT_SECONDS
    delays = backoff_delays()
    while True:
        try:
            return work()
        except OSError as error:
            delay = next(delays)
            if time.monotonic() + delay > deadline:
                raise StorageUnavailableError(error.errno, one_line(error)) from error
            logger.warning("the storage cannot be used, retrying in %g s: %s", delay, error)
            if on_wait:
                on_wait(one_line(error))
        time.sleep(delay)


def is_intact(folder: Path) -> bool:
    """Whether `folder` holds a complete checkpoint, unchanged since it was written. Raises OSError if unreadable."""
    try:
        recorded = json.loads((folder / MANIFEST_FILE).read_bytes())
        return bool({key: value for key, value in recorded.items() if key not in IDENTITY} == _digests(folder))
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return False


def write_checkpoint(
    folder: Path, writers: Mapping[str, Callable[[BinaryIO], object]], identity: Mapping[str, int] | None = None
) -> None:
    """Writes files and then their manifest, so that an incomplete checkpoint is never taken for an intact one.

    `writers` are by file name: `STATE_FILE`, and those of `ARRAYS` that there are. `identity` tells whose
    checkpoint it is, by the names of `IDENTITY`. The folder is created if missing; a checkpoint already there is
    replaced. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ARRAYS.values():
        (folder / name).unlink(missing_ok=True)
    for name, write in writers.items():
        with atomic_path(folder / name) as temporary, temporary.open("wb") as file:
            write(file)
    write_atomically(folder / MANIFEST_FILE, json.dumps({**_digests(folder), **(identity or {})}))


def _digests(folder: Path) -> dict[str, object]:
    """Describes the state file and, by key, those of `ARRAYS` that there are; older checkpoints have none."""
    manifest: dict[str, object] = _digest(folder / STATE_FILE)
    for key, name in ARRAYS.items():
        with suppress(FileNotFoundError):
            manifest[key] = _digest(folder / name)
    return manifest


def _digest(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"file": path.name, "bytes": file.tell(), "sha256": digest}


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Returns the digest of a file's contents. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
