"""What is in the folders of a storage: names, files and sizes, also where another user has closed a part of it.

What cannot be read is never taken for what is not there: an error names its path and the reason.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainables.errors import one_line
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, RemotePath, StorageError


def list_folder(folder: Location) -> list[Location]:
    """Returns what is directly in a folder; nothing if it does not exist. Raises StorageError."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot read {folder}: {one_line(error)}") from error


def has_file(path: Location) -> bool:
    """Whether there is a file. Raises RequestError where that cannot be seen, StorageError for an object store."""
    if isinstance(path, RemotePath):
        return path.is_file()
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise RequestError(f"cannot read {path}: {one_line(error)}") from error


def folders_holding(storage: Location, file: str) -> list[str]:
    """Returns the sorted names of the folders of `storage` that hold a file of this name, or may hold it unseen.

    Raises StorageError if the storage cannot be read.
    """
    return sorted(folder.name for folder in list_folder(storage) if _may_hold(folder, file))


def _may_hold(folder: Location, file: str) -> bool:
    try:
        return has_file(folder / file)
    except RequestError:
        return not folder.name.startswith(".") and folder.name != "lost+found"  # the system's own


def sizes_below(folder: Location, recursive: bool = True) -> dict[str, int]:
    """Returns the bytes of every file below a folder, or directly in it, by its path relative to the folder.

    Raises RequestError.
    """
    if isinstance(folder, RemotePath):
        found = folder.infos(recursive)
        return {info.path.removeprefix(f"{folder.key}/"): int(info.size) for info in found if info.is_file}

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # removed since it was listed
            raise RequestError(f"cannot read {error.filename}: {one_line(error)}") from error

    sizes: dict[str, int] = {}
    for place, folders, names in os.walk(folder, onerror=refuse):
        if not recursive:
            folders.clear()
        for name in names:
            path = Path(place, name)
            try:
                sizes[path.relative_to(folder).as_posix()] = path.lstat().st_size
            except OSError as error:
                refuse(error)
    return sizes
