"""Whether several machines see the same storage: each writes a file there that the others read."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tune_mentormix.errors import RequestError

FROM_DRIVER = "driver"


@contextmanager
def storage_probe(storage: Path) -> Iterator[Path]:
    """A folder in the storage with a file of this process; afterwards it is gone, and so is a storage made for it.

    Raises:
        RequestError: if the storage cannot be written.
    """
    folder = storage.resolve() / f".probe-{secrets.token_hex(8)}"
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.mkdir(parents=True)
        write_probe(folder, FROM_DRIVER)
        yield folder
    except OSError as error:
        raise RequestError(f"storage {storage} cannot be written: {error.strerror} (--storage)") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def write_probe(folder: Path, writer: str) -> None:
    """Leaves a file of this writer. Raises OSError if that cannot be."""
    (folder / writer).write_text(writer)


def reads_probe(folder: Path, writer: str) -> bool:
    """Whether the file of that writer is there."""
    try:
        return (folder / writer).read_text() == writer
    except OSError:
        return False
