"""Whether a checkpoint folder is intact: a manifest holds the size and the SHA-256 of the state file beside it.

Free of torch, so that a search's driver finds the newest intact checkpoint cheaply. A worker that dies while it
writes or uploads a checkpoint leaves its files incomplete, in any order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from trainables.files import atomic_path, write_atomically

STATE_FILE = "trial.pt"
MANIFEST_FILE = "manifest.json"


def is_intact(folder: Path) -> bool:
    """Whether `folder` holds a complete checkpoint, unchanged since it was written. Raises OSError if unreadable."""
    try:
        return (folder / MANIFEST_FILE).read_bytes() == _manifest(folder / STATE_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return False


def write_checkpoint(folder: Path, write_state: Callable[[BinaryIO], object]) -> None:
    """Writes the state file and then its manifest, so that an incomplete checkpoint is never taken for an intact one.

    The folder is created if missing; a checkpoint already there is replaced. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / STATE_FILE) as temporary, temporary.open("wb") as file:
        write_state(file)
    write_atomically(folder / MANIFEST_FILE, _manifest(folder / STATE_FILE))


def _manifest(path: Path) -> bytes:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return json.dumps({"file": path.name, "bytes": file.tell(), "sha256": digest}).encode()
