"""Whether several machines see the same storage: each writes a file there that the others read."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, RemotePath

FROM_DRIVER = "driver"


@contextmanager
def storage_probe(storage: Location) -> Iterator[Location]:
    """A folder in the storage with a file of this process; afterwards it is gone, and so is a storage made for it.

    Raises:
        RequestError: if the storage cannot be written.
    """
    root = storage if isinstance(storage, RemotePath) else storage.resolve()
    folder = root / f".probe-{secrets.token_hex(8)}"
    made = [] if isinstance(folder, RemotePath) else [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.mkdir(parents=True)
        write_probe(folder, FROM_DRIVER)
        yield folder
    except OSError as error:
        raise RequestError(f"storage {storage} cannot be written: {error.strerror} (--storage)") from error
    finally:
        with suppress(OSError):
            _remove(folder, made)


def write_probe(folder: Location, writer: str) -> None:
    """Leaves a file of this writer. Raises OSError if that cannot be."""
    (folder / writer).write_bytes(writer.encode())


def reads_probe(folder: Location, writer: str) -> bool:
    """Whether the file of that writer is there."""
    try:
        return (folder / writer).read_text() == writer
    except OSError:
        return False


def _remove(folder: Location, made: list[Path]) -> None:
    for probe in folder.iterdir():
        probe.unlink(missing_ok=True)
    if not isinstance(folder, RemotePath):
        folder.rmdir()
    for parent in made:
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
