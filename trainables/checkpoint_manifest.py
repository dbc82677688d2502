"""Says whether a checkpoint folder is whole: a manifest holds the size and the digest of the file beside it.

Free of torch, so that a search's driver can look for the newest whole checkpoint cheaply. A checkpoint may
be torn by a lost worker in the middle of writing, or of uploading, in any order of its files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

STATE_FILE = "trial.pt"
MANIFEST_FILE = "manifest.json"


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds a checkpoint, complete and unchanged since it was written.

    Raises:
        OSError: if that cannot be said, since the storage cannot be read now.
    """
    try:
        return (folder / MANIFEST_FILE).read_bytes() == _manifest(folder / STATE_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return False


def write_whole(folder: Path, write_state: Callable[[BinaryIO], object]) -> None:
    """Write the state file and then its manifest, so that a crash at any moment leaves a torn checkpoint torn.

    Args:
        folder: created if missing; a checkpoint already there is replaced.
        write_state: writes the state to an open file.

    Raises:
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_safely(folder / STATE_FILE, write_state)
    manifest = _manifest(folder / STATE_FILE)
    write_safely(folder / MANIFEST_FILE, lambda file: file.write(manifest))


def write_safely(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Under `path` there is, at any moment, the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def _manifest(path: Path) -> bytes:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return json.dumps({"file": path.name, "bytes": file.tell(), "sha256": digest}).encode()
