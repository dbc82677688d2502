"""Paths of experiments: a folder on a disk, or a prefix of an object store, named by a URI.

A folder is a `pathlib.Path`. A `RemotePath` has the same methods, over `pyarrow.fs`, which is imported with the
first request; an object appears as a whole or not at all. Where the two differ more there is a function, so that
nothing outside this package needs to know which of them it has.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from trainables import files
from trainables.errors import one_line
from tune_mentormix.errors import RequestError, unknown

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

GOOGLE_RETRY_SECONDS = 6  # as long as S3 takes; the default is a quarter of an hour
PROBE_BYTES = 1_000_000
SUBMISSIONS_FOLDER = ".submissions"  # of a storage, beside its experiments
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
_SECRET = re.compile(r"secret|password|passwd|token|access.?key|account.?key|credential|signature", re.IGNORECASE)
_DENIED = re.compile(r"denied|forbidden|invalid_access_key|invalid_client|signature|token|credential|HTTP status 403")
_STORE_ERROR = re.compile(r"(?:AWS )?Error (\w+) during \w+ operation: (.*?)(?: \(Request ID.*)?$", re.DOTALL)


class StorageError(OSError):
    """An object store cannot be used, or not now; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(None, message)  # `strerror` holds the reason, as in the system's own errors

    def __str__(self) -> str:
        return str(self.strerror)


class RemotePath:
    """An object in an object store, or a prefix of objects."""

    def __init__(self, uri: str) -> None:
        """Takes a URI, makes no request. Raises ValueError if it is none, or holds credentials."""
        self._parts = urlsplit(uri)
        _check(self._parts)
        self._path = PurePosixPath("/") / self._parts.path.strip("/")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The last part of the path without its suffix."""
        return self._path.stem

    @property
    def parent(self) -> RemotePath:
        """The path without its last part."""
        return self._with(self._path.parent)

    @property
    def key(self) -> str:
        """The path in the store's filesystem, which starts with the bucket."""
        return "/".join([self._root()[1], *self._path.parts[1:]])

    @property
    def filesystem(self) -> FileSystem:
        """The pyarrow filesystem; credentials come from the environment."""
        return self._root()[0]

    def __truediv__(self, part: str) -> RemotePath:
        return self._with(self._path / part)

    def __str__(self) -> str:
        return self._parts._replace(path=str(self._path).rstrip("/")).geturl()

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def absolute(self) -> RemotePath:
        """Returns the path itself: a URI is absolute."""
        return self

    resolve = absolute

    def exists(self) -> bool:
        """Whether there is an object here or below."""
        return bool(self._info().type.name != "NotFound")

    def is_file(self) -> bool:
        """Whether there is an object here."""
        return bool(self._info().is_file)

    def stat(self) -> os.stat_result:
        """Returns the object's `st_size`; all else is 0. Raises FileNotFoundError if there is none."""
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(2, "No such object", str(self))
        return os.stat_result((*[0] * 6, int(info.size), *[0] * 3))

    def read_bytes(self) -> bytes:
        """Reads the object. Raises FileNotFoundError if there is none."""
        with self.one_line_errors(), self.filesystem.open_input_stream(self.key) as stream:
            return bytes(stream.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        """Reads the object as text. Raises FileNotFoundError if there is none."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Writes the object, replacing one that exists."""
        with self.one_line_errors(), self.filesystem.open_output_stream(self.key) as stream:
            stream.write(data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        try:
            with self.one_line_errors():
                self.filesystem.delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: a prefix need not be created."""

    def iterdir(self) -> Iterator[RemotePath]:
        """Yields the objects and prefixes directly below, if any."""
        yield from (self / info.base_name for info in self.infos())

    def infos(self, recursive: bool = False) -> list[FileInfo]:
        """Returns what pyarrow knows of the objects and prefixes directly below, or of everything below."""
        from pyarrow.fs import FileSelector

        with self.one_line_errors():
            selector = FileSelector(self.key, allow_not_found=True, recursive=recursive)
            return list(self.filesystem.get_file_info(selector))

    @contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Turns pyarrow's errors, a paragraph each, into one line."""
        try:
            yield
        except (FileNotFoundError, StorageError):
            raise
        except OSError as error:
            raise StorageError(f"{self.store} {_reason(error)}") from error
        except ValueError as error:
            raise RequestError(f"{self.store} cannot be used: {one_line(error)} (--storage)") from error

    @property
    def store(self) -> str:
        """The URI of the bucket, for messages."""
        return f"{self._parts.scheme}://{self._parts.netloc}"

    def _info(self) -> FileInfo:
        with self.one_line_errors():
            return self.filesystem.get_file_info(self.key)

    def _root(self) -> tuple[FileSystem, str]:
        with self.one_line_errors():
            return _connect(self._parts._replace(path="").geturl())

    def _with(self, path: PurePosixPath) -> RemotePath:
        return RemotePath(self._parts._replace(path=str(path)).geturl())


Location = Path | RemotePath


def as_location(storage: object) -> Location:
    """Returns a folder (`~` and `file://` are understood), or the path of a URI. Raises ValueError for all else."""
    if isinstance(storage, Path | RemotePath):
        return storage
    if not isinstance(storage, str) or not storage:
        raise ValueError(f"must be a folder or a URI, got {storage!r}")
    local = storage.removeprefix("file://")
    return RemotePath(storage) if "://" in local else files.user_path(local)


def local_path(location: Location) -> Path | None:
    """Returns the path on this machine's disks, None for an object store."""
    return location if isinstance(location, Path) else None


def check_bucket(storage: Location) -> None:
    """Raises RequestError if the storage is in a bucket that does not exist."""
    if not isinstance(storage, RemotePath):
        return
    bucket = storage.key.split("/")[0]
    with suppress(StorageError), storage.one_line_errors():  # a bucket that may not be looked at passes
        if storage.filesystem.get_file_info(bucket).type.name == "NotFound":
            raise RequestError(f"there is no bucket {bucket!r} in {storage.store}: create it first (--storage)")


def relative_to(experiment: Location, path: str) -> str:
    """Returns a path as Tune gives it relative to the experiment, so that the experiment can be moved."""
    root = experiment.key if isinstance(experiment, RemotePath) else str(experiment.resolve())
    return PurePosixPath(path).relative_to(root).as_posix()


def tune_storage(folder: Location) -> dict[str, Any]:
    """Returns the arguments of `tune.run` that name the folder to write to."""
    if isinstance(folder, RemotePath):
        return {"storage_path": folder.key, "storage_filesystem": folder.filesystem}
    return {"storage_path": str(folder.resolve())}


def write_atomically(path: Location, content: bytes | str) -> None:
    """Writes a file, text as UTF-8, or replaces it; a crash leaves the old file or the new one. Raises OSError."""
    if isinstance(path, RemotePath):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        files.write_atomically(path, content)


def write_exclusively(path: Location, text: str) -> None:
    """Writes a new text file. On a disk, raises FileExistsError if it exists; an object store cannot tell."""
    if isinstance(path, RemotePath):
        path.write_bytes(text.encode())
    else:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)


def check_new(folder: Location) -> None:
    """Raises RequestError if a new experiment's folder exists already, or its bucket does not.

    An object store may hold such a folder without an experiment: a driver left it that failed at the start.
    """
    check_bucket(folder)
    if isinstance(folder, Path) and folder.exists():
        raise RequestError(f"{folder} exists already, and is no experiment; choose another --name")


def remove_new(folder: Location) -> None:
    """Removes a folder that this process has just created; on an object store nothing, since it may be another's."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)


def remove_folder(folder: Location) -> None:
    """Removes a folder with all that is in it, if it exists. Raises OSError."""
    if isinstance(folder, RemotePath):
        with folder.one_line_errors(), suppress(FileNotFoundError):
            folder.filesystem.delete_dir(folder.key)
    elif folder.exists():
        shutil.rmtree(folder)


@contextmanager
def temporary_folder(storage: Location) -> Iterator[Location]:
    """Yields a new folder in a storage; afterwards removes it, and the storage if it was created for it."""
    folder = storage.resolve() / f".probe-{secrets.token_hex(8)}"
    created = [parent for parent in folder.parents if not parent.exists()] if isinstance(folder, Path) else []
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        with suppress(OSError):
            remove_folder(folder)
            for parent in created:
                parent.rmdir()


def why_not_writable(folder: Location) -> str | None:
    """Tries to write as much as a small checkpoint; returns why that is impossible now, None if it is possible."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
        return None
    except OSError as error:
        return one_line(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


@cache
def _connect(root: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import FileSystem

    if root.startswith(("gs:", "gcs:")) and "retry_limit_seconds" not in root:
        root += f"{'&' if '?' in root else '?'}retry_limit_seconds={GOOGLE_RETRY_SECONDS}"
    filesystem, bucket = FileSystem.from_uri(root)
    return filesystem, bucket.strip("/")


def _check(parts: SplitResult) -> None:
    if parts.scheme not in SCHEMES:
        raise ValueError(unknown("kind of storage", f"{parts.scheme}://", [f"{scheme}://" for scheme in SCHEMES]))
    if not parts.hostname:
        raise ValueError(f"must name a bucket, like {parts.scheme}://bucket/folder, got {parts.geturl()!r}")
    # A container stands before the @ in Azure's URIs, and `anonymous` means no credentials in Google's.
    named = parts.username not in (None, "anonymous") and not parts.scheme.startswith("abfs")
    query = parse_qs(parts.query)
    inner = any("@" in value for values in query.values() for value in values)
    if named or parts.password or inner or any(map(_SECRET.search, query)):
        raise ValueError(
            "must hold no credentials, they would be written into search.yaml: set them in the environment, "
            "such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


def _reason(error: OSError) -> str:
    match = _STORE_ERROR.search(str(error))
    code, detail = (match[1], match[2]) if match else ("", one_line(error))
    if code == "NO_SUCH_BUCKET":
        return "does not exist: create the bucket first"
    if _DENIED.search(f"{code} {detail}".lower()):
        return "refuses access: credentials are those of the environment (AWS_ACCESS_KEY_ID, …) or of the machine"
    reason, *_ = detail.split("Details: ")[-1].split("\n")
    return f"cannot be used: {reason[:300]}"
