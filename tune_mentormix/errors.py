"""The two ways a command ends without its answer; `cli` turns them into exit codes and one line on stderr."""


class RequestError(Exception):
    """The request was wrong (exit code 2): the message names the setting, its value and what is allowed."""


class SearchFailedError(Exception):
    """The work itself failed (exit code 1): the message gives the first reason and the way on."""
