"""Where experiments live: a folder of a disk, or a prefix of an object store, named by a URI.

Folders stay `pathlib.Path`. `RemotePath` has the same names for what this project does with them, over `pyarrow.fs`,
which is imported when the first request is made. An object appears whole or not at all: a write needs no more care.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from tune_mentormix.errors import RequestError, unknown

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

GOOGLE_RETRY_SECONDS = 6  # as long as S3 takes; by itself it goes on for a quarter of an hour
PROBE_BYTES = 1_000_000
SUBMISSIONS_FOLDER = ".submissions"  # of a storage, beside its experiments
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
_SECRET = re.compile(r"secret|password|passwd|token|access.?key|account.?key|credential|signature", re.IGNORECASE)
_DENIED = re.compile(r"denied|forbidden|invalid_access_key|invalid_client|signature|token|credential|HTTP status 403")
_STORE_ERROR = re.compile(r"(?:AWS )?Error (\w+) during \w+ operation: (.*?)(?: \(Request ID.*)?$", re.DOTALL)


class StorageError(OSError):
    """An object store that cannot be used, or not now; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(None, message)  # as the system's own errors have it: `strerror` says why

    def __str__(self) -> str:
        return str(self.strerror)


class RemotePath:
    """A place in an object store: an object, or the prefix of some."""

    def __init__(self, uri: str) -> None:
        """Takes a URI as `pyarrow.fs.FileSystem.from_uri` does; no request is made.

        Raises:
            ValueError: in one line, if it is none, or holds credentials.
        """
        parts = urlsplit(uri)
        _check(parts)
        self._parts = parts
        self._path = PurePosixPath("/") / parts.path.strip("/")

    @property
    def name(self) -> str:
        """The last part."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The last part, without its suffix."""
        return self._path.stem

    @property
    def parent(self) -> RemotePath:
        """One part less."""
        return self._with(self._path.parent)

    @property
    def key(self) -> str:
        """The path as the store's filesystem knows it, bucket first."""
        return "/".join([self._root()[1], *self._path.parts[1:]])

    @property
    def filesystem(self) -> FileSystem:
        """Of pyarrow; the credentials are those of the environment."""
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

    def exists(self) -> bool:
        """Whether there is an object, or any below it."""
        return bool(self._info().type.name != "NotFound")

    def is_file(self) -> bool:
        """Whether there is an object."""
        return bool(self._info().is_file)

    def size(self) -> int:
        """Of an object, in bytes. Raises FileNotFoundError if there is none."""
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(2, "No such object", str(self))
        return int(info.size)

    def read_bytes(self) -> bytes:
        """An object. Raises FileNotFoundError if there is none."""
        with self._said(), self.filesystem.open_input_stream(self.key) as stream:
            return bytes(stream.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        """An object. Raises FileNotFoundError if there is none."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Writes the object, or another in its place."""
        with self._said(), self.filesystem.open_output_stream(self.key) as stream:
            stream.write(data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        try:
            with self._said():
                self.filesystem.delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a prefix needs no making."""

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies directly below; nothing where nothing does."""
        from pyarrow.fs import FileSelector

        with self._said():
            found = self.filesystem.get_file_info(FileSelector(self.key, allow_not_found=True))
        yield from (self / info.base_name for info in found)

    def sizes(self) -> dict[str, int]:
        """Bytes of every object below, by its path from here."""
        from pyarrow.fs import FileSelector

        with self._said():
            found = self.filesystem.get_file_info(FileSelector(self.key, allow_not_found=True, recursive=True))
        return {info.path.removeprefix(f"{self.key}/"): int(info.size) for info in found if info.is_file}

    def remove_tree(self) -> None:
        """Removes everything below; nothing where nothing is."""
        with self._said(), suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.key)

    def download(self, folder: Path) -> None:
        """Copies everything below into a local folder."""
        from pyarrow.fs import copy_files

        with self._said():
            copy_files(self.key, str(folder), source_filesystem=self.filesystem)

    def check_bucket(self) -> None:
        """Raises RequestError if the bucket does not exist; one that may not be looked at passes."""
        bucket = self.key.split("/")[0]
        try:
            with self._said():
                known = self.filesystem.get_file_info(bucket).type.name != "NotFound"
        except StorageError:
            return
        if not known:
            raise RequestError(f"there is no bucket {bucket!r} in {self._shown()}: create it first (--storage)")

    def _info(self) -> FileInfo:
        with self._said():
            return self.filesystem.get_file_info(self.key)

    def _root(self) -> tuple[FileSystem, str]:
        with self._said():
            return _connect(self._parts._replace(path="").geturl())

    def _with(self, path: PurePosixPath) -> RemotePath:
        return RemotePath(self._parts._replace(path=str(path)).geturl())

    def _shown(self) -> str:
        return f"{self._parts.scheme}://{self._parts.netloc}"

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What pyarrow says in a paragraph, in one line."""
        try:
            yield
        except (FileNotFoundError, StorageError):
            raise
        except OSError as error:
            raise StorageError(f"{self._shown()} {_reason(error)}") from error
        except ValueError as error:
            raise RequestError(f"{self._shown()} cannot be used: {_first_line(error)} (--storage)") from error


Location = Path | RemotePath


def as_location(storage: object) -> Location:
    """A folder, `file://` before it or not, `~` in it or not; or the URI of a place in an object store.

    Raises:
        ValueError: in one line, if it is neither.
    """
    if isinstance(storage, Path | RemotePath):
        return storage
    if not isinstance(storage, str) or not storage:
        raise ValueError(f"must be a folder or a URI, got {storage!r}")
    local = storage.removeprefix("file://")
    return RemotePath(storage) if "://" in local else Path(local).expanduser()


def relative_to(experiment: Location, path: str) -> str:
    """A path as Tune gives it, relative to the experiment, so that the experiment can be moved."""
    root = experiment.key if isinstance(experiment, RemotePath) else str(experiment.resolve())
    return PurePosixPath(path).relative_to(root).as_posix()


def tune_storage(folder: Location) -> dict[str, Any]:
    """What `tune.run` is told about where to write."""
    if isinstance(folder, RemotePath):
        return {"storage_path": folder.key, "storage_filesystem": folder.filesystem}
    return {"storage_path": str(folder.resolve())}


def remove_folder(folder: Location) -> None:
    """Removes a folder with all that is in it; nothing where there is none. Raises OSError if that cannot be."""
    if isinstance(folder, RemotePath):
        folder.remove_tree()
    elif folder.exists():
        shutil.rmtree(folder)


def sizes_below(folder: Location) -> dict[str, int]:
    """Bytes of every file below a folder, by its path from there; one that goes meanwhile is left out."""
    if isinstance(folder, RemotePath):
        return folder.sizes()
    sizes: dict[str, int] = {}
    for place, _, files in os.walk(folder):
        for file in files:
            path = Path(place, file)
            with suppress(FileNotFoundError):
                sizes[path.relative_to(folder).as_posix()] = path.lstat().st_size
    return sizes


def why_not_writable(folder: Location) -> str | None:
    """Why nothing of the size of a small checkpoint can be written now, found out by trying; None: it can."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
        return None
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def folders_holding(storage: Location, file: str) -> list[str]:
    """Names of the folders of `storage` that hold a file, in order."""
    if isinstance(storage, RemotePath):
        return sorted(folder.name for folder in storage.iterdir() if (folder / file).is_file())
    return sorted(found.parent.name for found in storage.glob(f"*/{file}"))


@cache
def _connect(root: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import FileSystem

    if root.startswith(("gs:", "gcs:")) and "retry_limit_seconds" not in root:
        root += (
            f"{'&' if '?' in root else '?'}retry_limit_seconds={GOOGLE_RETRY_SECONDS}"  # else a quarter of an hour
        )
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
    code, detail = (match[1], match[2]) if match else ("", _first_line(error))
    if code == "NO_SUCH_BUCKET":
        return "does not exist: create the bucket first"
    if _DENIED.search(f"{code} {detail}".lower()):
        return "refuses access: credentials are those of the environment (AWS_ACCESS_KEY_ID, …) or of the machine"
    return f"cannot be used: {_first_line(detail.split('Details: ')[-1])}"


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
