"""A journal on a disk: one file that grows by whole lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path

from tune_mentormix.errors import TakenOverError


class AppendedFile:
    """Appends lines to a file; after a failure it opens the file anew, since a handle may be stale by then."""

    def __init__(self, path: Path) -> None:
        """Opens the file, creating it if need be, and cuts off a torn last line. Raises OSError."""
        self._path = path
        self._stream: FileIO | None = FileIO(path, "a")
        self._whole = _whole_length(path)  # bytes up to the last line that is on the disk for certain
        self._failed = b""  # the lines that were being written when the last write failed
        if self._size() > self._whole:
            self._stream.truncate(self._whole)

    def append(self, lines: bytes) -> None:
        """Appends whole lines; when this returns they are on the disk, when it raises OSError they are not there.

        Raises:
            TakenOverError: if another writer wrote here since this one began.
        """
        if self._stream is None:
            self._stream = FileIO(self._path, "a")
        try:
            self._cut_off_failed()
            self._failed = lines
            _write_all(self._stream, lines)
            os.fsync(self._stream.fileno())
        except TakenOverError:
            raise
        except OSError:
            with suppress(OSError):
                self._cut_off_failed()  # frees what a full disk still took of it
            self.close()
            raise
        self._whole += len(lines)
        self._failed = b""

    def close(self) -> None:
        """Closes the file."""
        stream, self._stream = self._stream, None
        if stream:
            with suppress(OSError):
                stream.close()

    def _cut_off_failed(self) -> None:
        """Cuts off what this writer left of a line; anything else behind the last line is another writer's."""
        size = self._size()
        if size == self._whole:
            return
        with self._path.open("rb") as reader:
            reader.seek(self._whole)
            if size < self._whole or not self._failed.startswith(reader.read()):
                raise TakenOverError
        os.truncate(self._path, self._whole)

    def _size(self) -> int:
        return os.stat(self._path).st_size


def read_lines(path: Path) -> Iterator[bytes]:
    """All whole lines; none where there is no file."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            yield line


def _write_all(stream: FileIO, data: bytes) -> None:
    """A single write to a disk that is filling up may write a part only."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _whole_length(path: Path) -> int:
    """Bytes up to and including the last line end."""
    with path.open("rb") as stream:
        position = stream.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65_536)
            stream.seek(start)
            end = stream.read(position - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            position = start
    return 0
