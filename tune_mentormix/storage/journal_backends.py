"""Stores the journal's lines: in a file on a disk, or in segments on an object store.

An object cannot be appended to, so each write to an object store makes a new object, a segment. Segments are
numbered, and merged into larger ones so that a reader makes few requests.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from trainables.errors import one_line
from trainables.files import refuse_pipe, write_atomically
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, RemotePath, StorageError

logger = logging.getLogger(__name__)

MERGED_AT_ONCE = 32
MAX_PARALLEL_READS = 16
MAX_READ_ATTEMPTS = 10  # for segments that are merged while they are read
_NAME = re.compile(r"(\d{6,})(?:-(\d{6,}))?\.([0-9a-f]+)\.jsonl")


@dataclass(frozen=True, order=True)
class Segment:
    """One object of a journal on an object store: the writes numbered from `first` to `last`."""

    first: int
    last: int
    token: str  # of the writer

    @property
    def name(self) -> str:
        """The object's name."""
        numbers = f"{self.first:06d}" if self.first == self.last else f"{self.first:06d}-{self.last:06d}"
        return f"{numbers}.{self.token}.jsonl"

    def covers(self, other: Segment) -> bool:
        """Whether this segment was merged from `other` and more, and so holds its lines."""
        holds = self.last > self.first and self.first <= other.first and other.last <= self.last
        same = (self.first, self.last) == (other.first, other.last)
        return holds and (not same or self.token < other.token)


class LeaseLostError(StorageError):
    """Another driver took over and writes the same journal: this one must stop, whatever it still has to write."""

    def __init__(
        self, reason: str = "another process runs this experiment now; this one was cut off for too long"
    ) -> None:
        super().__init__(reason)


class FileBackend:
    """Appends complete lines to one file. After a failure it reopens the file, as a handle may be stale by then."""

    buffer_seconds = 0.0

    def __init__(self, path: Path) -> None:
        """Opens the file, creates it if it is missing, and cuts off a truncated last line. Raises OSError."""
        self._path = path
        self._stream: FileIO | None = FileIO(path, "a+")
        self._intact = _intact_length(path)  # bytes up to the last line that is certainly on the disk
        self._failed = b""  # the lines of the last write, if it failed
        if os.fstat(self._stream.fileno()).st_size > self._intact:
            self._stream.truncate(self._intact)

    def append(self, lines: bytes) -> None:
        """Appends complete lines, or none where this raises OSError (LeaseLostError: there is another writer)."""
        if not self._path.exists() and self._intact:
            self._restore()
        if self._stream is None:
            self._stream = FileIO(self._path, "a+")
        try:
            self._cut_off_failed()
            self._failed = lines
            _write_all(self._stream, lines)
            os.fsync(self._stream.fileno())
        except LeaseLostError:
            raise
        except OSError:
            with suppress(OSError):
                self._cut_off_failed()  # frees what a full disk stored of it
            self.close()
            raise
        self._intact += len(lines)
        self._failed = b""

    def close(self) -> None:
        """Closes the file."""
        stream, self._stream = self._stream, None
        if stream:
            with suppress(OSError):
                stream.close()

    def _restore(self) -> None:
        """Writes the file again after it was removed, from the open handle, which still reads it."""
        if self._stream is None:
            raise LeaseLostError(f"{self._path} was removed while the storage failed")
        write_atomically(self._path, os.pread(self._stream.fileno(), self._intact, 0))
        self.close()
        logger.warning("%s was removed while the search runs: it was written again, complete", self._path)

    def _cut_off_failed(self) -> None:
        """Cuts off what this writer left of a failed write; other bytes after the last line are another writer's."""
        size = self._path.stat().st_size
        if size == self._intact:
            return
        with self._path.open("rb") as reader:
            reader.seek(self._intact)
            if size < self._intact or not self._failed.startswith(reader.read()):
                raise LeaseLostError
        os.truncate(self._path, self._intact)


class SegmentsBackend:
    """Writes a segment for each append; merges `MERGED_AT_ONCE` into one, and as many merged ones again."""

    buffer_seconds = 2.0  # every write is a request

    def __init__(self, folder: RemotePath) -> None:
        """Merges what earlier writers left. Raises OSError if the storage cannot be read and written now."""
        self._folder = folder
        self._token = secrets.token_hex(4)
        found = _list(folder)
        current = _without_covered(found)
        self._known = set(found)
        self._levels: list[list[Segment]] = [[]]  # own segments, by how often they were merged
        self._next = 1 + max((segment.last for segment in current), default=0)
        self._present = set(current)  # what holds the journal now
        self._written = _read(folder, current)  # all of its lines, should somebody remove segments
        if len(current) > 1:
            self._merge(current, found)

    def append(self, lines: bytes) -> None:
        """Writes one segment, or none where this raises OSError (LeaseLostError: there is another writer)."""
        found = set(_list(self._folder))
        if found - self._known:
            raise LeaseLostError
        if self._present - found:
            self._restore()
        segment = Segment(self._next, self._next, self._token)
        self._known.add(segment)  # before the write: if only its answer is lost, the segment exists
        (self._folder / segment.name).write_bytes(lines)
        self._next += 1
        self._present.add(segment)
        self._written.append(lines)
        self._levels[0].append(segment)
        self._merge_full_levels()

    def close(self) -> None:
        """Merges what this writer wrote. If that fails, the next writer does it."""
        own = [segment for level in self._levels for segment in level]
        if len(own) > 1:
            with suppress(OSError):
                self._merge(sorted(own), own)

    def _restore(self) -> None:
        """Writes all lines again, as one segment, after somebody removed some or all."""
        whole = Segment(min(self._present).first, self._next - 1, self._token)
        self._known.add(whole)
        (self._folder / whole.name).write_bytes(b"".join(self._written))
        self._replace(self._present - {whole}, whole)
        self._levels = [[whole]]
        logger.warning("parts of %s were removed while the search runs: it was written again, complete", self._folder)

    def _replace(self, segments: Collection[Segment], merged: Segment) -> None:
        for segment in segments:
            with suppress(OSError):  # readers skip it: the merged one covers it
                (self._folder / segment.name).unlink(missing_ok=True)
        self._present = self._present.difference(segments) | {merged}

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
        self._replace(replaced, merged)
        return merged


def open_backend(path: Location) -> FileBackend | SegmentsBackend:
    """Opens the journal `path` for writing. Raises OSError if it cannot be read and written now."""
    return SegmentsBackend(_segments_folder(path)) if isinstance(path, RemotePath) else FileBackend(path)


def journal_lines(path: Location) -> Iterator[bytes]:
    """Reads all complete lines of the journal `path` in order; none if it does not exist. Raises RequestError."""
    return read_segments(_segments_folder(path)) if isinstance(path, RemotePath) else _read_file(path)


def rewrite_lines(path: Location, lines: list[bytes]) -> None:
    """Replaces the journal `path`, which has no other writer, by these lines. Raises OSError."""
    content = b"".join(line.rstrip(b"\n") + b"\n" for line in lines)
    if isinstance(path, Path):
        write_atomically(path, content)
        return
    replaced = _list(_segments_folder(path))
    covering = Segment(replaced[0].first, replaced[-1].last + 1, secrets.token_hex(4))
    (_segments_folder(path) / covering.name).write_bytes(content)
    for segment in replaced:
        (_segments_folder(path) / segment.name).unlink(missing_ok=True)


def read_segments(folder: RemotePath) -> Iterator[bytes]:
    """Reads all lines of the segments in a folder, in order."""
    for _ in range(MAX_READ_ATTEMPTS):
        try:
            parts = _read(folder, _without_covered(_list(folder)))
        except FileNotFoundError:
            continue  # merged since they were listed
        for part in parts:
            yield from part.splitlines()
        return
    raise OSError(None, f"{folder} changes faster than it can be read: try again")


def _read_file(path: Path) -> Iterator[bytes]:
    try:
        refuse_pipe(path)
        with path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise RequestError(f"cannot read {path}: {one_line(error)}") from error


def _write_all(stream: FileIO, data: bytes) -> None:
    """Writes all of it: a single write to a disk that is filling up may write only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _intact_length(path: Path) -> int:
    """Returns the number of bytes up to and including the last line end."""
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


def _segments_folder(path: RemotePath) -> RemotePath:
    return path.parent / path.stem


def _read(folder: RemotePath, segments: list[Segment]) -> list[bytes]:
    with ThreadPoolExecutor(MAX_PARALLEL_READS) as readers:
        return list(readers.map(lambda segment: (folder / segment.name).read_bytes(), segments))


def _list(folder: RemotePath) -> list[Segment]:
    matches = (_NAME.fullmatch(found.name) for found in folder.iterdir())
    return sorted(Segment(int(m[1]), int(m[2] or m[1]), m[3]) for m in matches if m)


def _without_covered(segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if not any(other.covers(segment) for other in segments)]
