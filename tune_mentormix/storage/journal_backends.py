"""A journal on a disk: one file that grows by whole lines."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from tune_mentormix.errors import TakenOverError
from tune_mentormix.storage.paths import RemotePath


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


MERGED_AT_ONCE = 32
READ_AT_ONCE = 16
TRIES = 10  # to read segments that are being merged meanwhile
_NAME = re.compile(r"(\d{6,})(?:-(\d{6,}))?\.([0-9a-f]+)\.jsonl")


@dataclass(frozen=True, order=True)
class Segment:
    """One object of the journal."""

    first: int
    last: int
    token: str

    @property
    def name(self) -> str:
        """Of the object."""
        numbers = f"{self.first:06d}" if self.first == self.last else f"{self.first:06d}-{self.last:06d}"
        return f"{numbers}.{self.token}.jsonl"

    def covers(self, other: Segment) -> bool:
        """Whether what the other holds stands in this one, which was merged from it and more."""
        holds = self.last > self.first and self.first <= other.first and other.last <= self.last
        same = (self.first, self.last) == (other.first, other.last)
        return holds and (not same or self.token < other.token)


class Segments:
    """Writes segments after those that are there; `MERGED_AT_ONCE` small ones become one, as many of these again."""

    def __init__(self, folder: RemotePath) -> None:
        """Merges what earlier writers left. Raises OSError if the storage cannot be read and written now."""
        self._folder = folder
        self._token = secrets.token_hex(4)
        found = _list(folder)
        current = _current(found)
        self._known = set(found)
        self._levels: list[list[Segment]] = [[]]  # own segments, by how often they were merged
        self._next = 1 + max((segment.last for segment in current), default=0)
        if len(current) > 1:
            self._merge(current, found)

    def append(self, lines: bytes) -> None:
        """Writes one segment; when this raises OSError it counts as not written.

        Raises:
            TakenOverError: if another writer wrote here since this one began.
        """
        if set(_list(self._folder)) - self._known:
            raise TakenOverError
        segment = Segment(self._next, self._next, self._token)
        self._known.add(segment)  # before it is written: an answer may be lost on the way, and then it is there
        (self._folder / segment.name).write_bytes(lines)
        self._next += 1
        self._levels[0].append(segment)
        self._merge_full_levels()

    def close(self) -> None:
        """Merges what this writer wrote. What fails here the next writer does."""
        own = [segment for level in self._levels for segment in level]
        if len(own) > 1:
            with suppress(OSError):
                self._merge(sorted(own), own)

    def _merge_full_levels(self) -> None:
        for level, segments in enumerate(self._levels):
            if len(segments) < MERGED_AT_ONCE:
                return
            try:
                merged = self._merge(segments, segments)
            except OSError:
                return  # they stay as they are until the next time
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(merged)
            segments.clear()

    def _merge(self, segments: list[Segment], replaced: list[Segment]) -> Segment:
        merged = Segment(segments[0].first, segments[-1].last, self._token)
        self._known.add(merged)
        (self._folder / merged.name).write_bytes(b"".join(_read(self._folder, segments)))
        for segment in replaced:
            with suppress(OSError):  # readers leave it out
                (self._folder / segment.name).unlink(missing_ok=True)
        return merged


def read_segments(folder: RemotePath) -> Iterator[bytes]:
    """All lines in order."""
    for _ in range(TRIES):
        try:
            parts = _read(folder, _current(_list(folder)))
        except FileNotFoundError:
            continue  # merged since they were listed
        for part in parts:
            yield from part.splitlines()
        return
    raise OSError(None, f"{folder} changes faster than it can be read")


def _read(folder: RemotePath, segments: list[Segment]) -> list[bytes]:
    with ThreadPoolExecutor(READ_AT_ONCE) as readers:
        return list(readers.map(lambda segment: (folder / segment.name).read_bytes(), segments))


def _list(folder: RemotePath) -> list[Segment]:
    matches = (_NAME.fullmatch(found.name) for found in folder.iterdir())
    return sorted(Segment(int(m[1]), int(m[2] or m[1]), m[3]) for m in matches if m)


def _current(segments: list[Segment]) -> list[Segment]:
    """Without those that another covers."""
    return [segment for segment in segments if not any(other.covers(segment) for other in segments)]
