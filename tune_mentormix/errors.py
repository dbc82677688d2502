"""How a command ends: its exit codes, the two errors that `cli` turns into one line on stderr, and how to install."""

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


class RequestError(Exception):
    """The request was wrong (exit code 2): the message names the setting, its value and what is allowed."""


def how_to_install(extra: str) -> str:
    """What adds one of the project's extras: where there is a checkout, and where the package came without one."""
    return f"make install EXTRAS={extra}, or without a checkout pip install 'tune-mentormix[{extra}]'"


class TakenOverError(OSError):
    """Another process writes the same journal: this one must stop, whatever it still has to write."""

    def __init__(self) -> None:
        super().__init__(None, "another process runs this experiment now; this one was cut off for too long")

    def __str__(self) -> str:
        return str(self.strerror)


class SearchFailedError(Exception):
    """The work itself failed (exit code 1): the message gives the first reason and the way on."""
