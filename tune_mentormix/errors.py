"""How a command ends: its exit codes, and the two errors that `cli` turns into one line on stderr and such a code."""

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


class RequestError(Exception):
    """The request was wrong (exit code 2): the message names the setting, its value and what is allowed."""


class TakenOverError(OSError):
    """Another process writes the same journal: this one must stop, whatever it still has to write."""

    def __init__(self) -> None:
        super().__init__(None, "another process runs this experiment now; this one was cut off for too long")

    def __str__(self) -> str:
        return str(self.strerror)


class SearchFailedError(Exception):
    """The work itself failed (exit code 1): the message gives the first reason and the way on."""
