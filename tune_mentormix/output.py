"""Standard output and error may go away while the work continues: a reader left, a terminal closed, a disk is full.

`cli` guards the streams; what was lost is read from here by whoever keeps a record of the work.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from trainables.errors import one_line

StreamName = Literal["stdout", "stderr"]
WRITABLE_SECONDS = 5.0  # in which a reader that is slow must take something
_STANDARD = {"stdin": (0, "r"), "stdout": (1, "w"), "stderr": (2, "w")}
_lost: dict[StreamName, str] = {}


def lost_streams() -> dict[StreamName, str]:
    """Returns the streams of this process that cannot be written any more, and why."""
    return dict(_lost)


def is_interactive() -> bool:
    """Whether a person's session runs in this process, such as a notebook's: it must outlive the work."""
    return hasattr(sys, "ps1")


def notebook_display() -> Callable[[object], object] | None:
    """Returns what shows an object below a notebook's cell, in place of the one before; None where no notebook is."""
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel"):
        return None
    handle: Any = None

    def show(shown: object) -> None:
        nonlocal handle
        if handle is None:
            handle = ipython.display.display(shown, display_id=True)
        else:
            handle.update(shown)

    return show


def open_closed_streams() -> None:
    """Opens `os.devnull` for each standard stream that was closed before the program began, as by `>&-`.

    Else the next file that is opened, such as a journal, would get the stream's number and what is printed to it.
    """
    for name, (number, mode) in _STANDARD.items():
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lives as the process does
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


@contextmanager
def guarded(name: StreamName, on_loss: Callable[[str], object] = lambda reason: None) -> Iterator[None]:
    """While the block runs, whatever writes to the stream goes on where it cannot be written: that text is dropped.

    `on_loss` is called once, with the reason. A stream that was replaced, as tests do, is left alone.
    """
    stream = getattr(sys, name)
    if stream is not getattr(sys, f"__{name}__"):
        yield
        return
    guard = io.TextIOWrapper(
        io.BufferedWriter(_GuardedFile(name, stream, on_loss)),
        encoding=stream.encoding,
        errors="replace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
    )
    with ExitStack() as undo:
        undo.callback(setattr, sys, name, stream)
        undo.callback(guard.flush)
        setattr(sys, name, guard)
        yield


class _GuardedFile(io.FileIO):
    """A standard stream that leads to `os.devnull` once a write failed, for every writer of the process."""

    def __init__(self, name: StreamName, stream: Any, on_loss: Callable[[str], object]) -> None:
        super().__init__(stream.fileno(), "wb", closefd=False)
        self._stream_name = name
        self._on_loss = on_loss

    def write(self, data: Any) -> int:
        """Writes bytes, or drops them. Never raises."""
        try:
            written = super().write(data)
            if written is None:  # a pipe that does not block, and whose reader is slow
                select.select([], [self], [], WRITABLE_SECONDS)
                written = super().write(data)
            return len(data) if written is None else written
        except OSError as error:
            self._lose(one_line(error))
            return len(data)

    def _lose(self, reason: str) -> None:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self.fileno())
        os.close(devnull)
        if self._stream_name not in _lost:
            _lost[self._stream_name] = reason
            self._on_loss(reason)
